# SPDX-License-Identifier: Apache-2.0
"""The base image: busybox, a small ssh server, an init of our own and what Tempest calls inside a guest.

It is built from the distribution's packages, so no registry is needed. The same packages give the same bytes, so that
an upload can be skipped when Glance has the image already.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dockstack.deploy.base_image.built import BuiltImage
from dockstack.deploy.base_image.packages import architecture, needed_libraries, unpack_closure
from dockstack.errors import DockstackError
from dockstack.oci.documents import Configuration, Digest, Layer, Platform, go_architecture

NAME = "dockstack-base"
USER = "dockstack"
# Behind busybox stand those of its applets that do not suffice: its ping works for root alone, its nc knows no UDP, its
# shell prefers its own applets whatever PATH says. sudo makes the user root without a password; the rest of the second
# line is what Tempest looks for (docs/tempest.md).
PACKAGES = (
    *("busybox-static", "dropbear-bin", "iputils-ping", "bash", "sudo", "libpam-modules", "netcat-traditional"),
    *("curl", "ca-certificates", "util-linux", "e2fsprogs", "dosfstools"),
)
_ROOTFS = Path(__file__).with_name("rootfs")
_UID = 1000  # of USER, as in rootfs/etc/passwd
_PROGRAMS = (
    *("bin/bash", "usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/bin/dbclient", "usr/bin/ping", "usr/bin/sudo"),
    *("usr/bin/su",),
    *("usr/libexec/sudo/sudoers.so", "usr/bin/nc.traditional", "usr/bin/curl"),
    *("usr/sbin/blkid", "usr/bin/lsblk", "usr/sbin/mkfs", "usr/sbin/mke2fs", "usr/sbin/mkfs.fat"),
)
_PAM_MODULES = ("pam_permit.so", "pam_rootok.so", "pam_unix.so")
_SETUID = frozenset({"usr/bin/su", "usr/bin/sudo"})
_LINKS = {
    "usr/bin/ssh": "dbclient",
    "usr/bin/ping6": "ping",
    "usr/sbin/mkfs.vfat": "mkfs.fat",
    **{f"usr/sbin/mkfs.ext{version}": "mke2fs" for version in (2, 3, 4)},
}
_EXECUTABLE = frozenset({"sbin/init", "usr/bin/nc", "usr/lib/dockstack/metadata", "etc/udhcpc/default.script"})
_PRIVATE = frozenset({"etc/shadow", "etc/sudoers"})
_SKIPPED_APPLETS = frozenset(
    {"busybox", "init", "linuxrc", "dpkg", "dpkg-deb", "rpm", "rpm2cpio"}
    | {"ping", "ping6", "bash", "nc", "netcat", "su", "mke2fs", "mkfs.ext2"}
)
_PROCESS = {
    "Cmd": ["/sbin/init"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "StopSignal": "SIGUSR2",  # rootfs/sbin/init
    "Labels": {"org.opencontainers.image.title": NAME},
}


@dataclass(frozen=True)
class Entry:
    """One entry of the image's only layer."""

    mode: int
    data: bytes | None = None  # a file's content
    target: str | None = None  # a symbolic link's target; a directory has neither
    owner: int = 0


def build() -> BuiltImage:
    """Build the base image for this machine's architecture.

    Raises:
        DockstackError: the packages cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="dockstack-base-") as directory:
        root = unpack_closure(PACKAGES, Path(directory))
        tree = directories() | our_files() | _applets(root) | _programs(root) | _data(root)
    return of_tree(tree, platform())


def platform() -> Platform:
    """Return what an image that is built here runs on."""
    return Platform("linux", *go_architecture(architecture()))


def of_tree(tree: dict[str, Entry], platform: Platform) -> BuiltImage:
    """Make the image of a tree."""
    data = layer_tar(tree)
    layer = Layer(Digest.of(data), len(data), lambda: (data,))
    return BuiltImage(Configuration.build(platform, [layer.diff_id], dict(_PROCESS), "dockstack image build"), layer)


def layer_tar(tree: dict[str, Entry]) -> bytes:
    """Write a tree as a tar: sorted, the epoch as its time, numeric owners; the same tree gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, node in sorted(tree.items()):
            info = tarfile.TarInfo(path)
            info.mode, info.uid, info.gid = node.mode, node.owner, node.owner
            if node.target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, node.target
            elif node.data is None:
                info.type = tarfile.DIRTYPE
            info.size = len(node.data or b"")
            archive.addfile(info, io.BytesIO(node.data or b""))
    return buffer.getvalue()


def directories() -> dict[str, Entry]:
    """List the image's directories, the mount points of a container among them."""
    ordinary = (
        "bin dev etc etc/dropbear etc/pam.d etc/ssl etc/ssl/certs etc/udhcpc home lib lib/security media mnt opt proc"
        " run sbin sys usr usr/bin usr/lib usr/libexec usr/libexec/sudo"
        " usr/lib/dockstack usr/local usr/local/bin usr/local/sbin usr/sbin var var/lib var/lib/dockstack var/log"
    )
    return {path: Entry(0o755) for path in ordinary.split()} | {
        "root": Entry(0o700),
        f"home/{USER}": Entry(0o755, owner=_UID),
        "tmp": Entry(0o1777),
        "var/tmp": Entry(0o1777),
        "var/run": Entry(0o777, target="/run"),
    }


def our_files() -> dict[str, Entry]:
    """Read the files that are part of this package: the init, the metadata client, the accounts."""
    files = {str(path.relative_to(_ROOTFS)): path for path in _ROOTFS.rglob("*") if path.is_file()}
    return {name: Entry(_mode(name), path.read_bytes()) for name, path in files.items()}


def _mode(name: str) -> int:
    if name in _EXECUTABLE:
        return 0o755
    return 0o600 if name in _PRIVATE else 0o644


def _applets(root: Path) -> dict[str, Entry]:
    """Link every applet of busybox that makes sense in a container."""
    busybox = _unpacked(root, "bin/busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    links = {f"bin/{name}": Entry(0o777, target="busybox") for name in names if name not in _SKIPPED_APPLETS}
    return {"bin/busybox": Entry(0o755, busybox.read_bytes())} | links


def _programs(root: Path) -> dict[str, Entry]:
    """Copy programs and plug-ins, with the libraries that they load."""
    files = {place: _unpacked(root, place) for place in _PROGRAMS}
    files |= {f"lib/security/{name}": _pam_module(root, name) for name in _PAM_MODULES}
    for name, path in needed_libraries(root, tuple(files.values())).items():
        files[name.lstrip("/") if name.startswith("/") else f"lib/{name}"] = path
    parents = {str(parent) for place in files for parent in Path(place).parents if parent.name}
    return (
        {parent: Entry(0o755) for parent in parents}
        | {place: Entry(0o4755 if place in _SETUID else 0o755, path.read_bytes()) for place, path in files.items()}
        | {name: Entry(0o777, target=target) for name, target in _LINKS.items()}
    )


def _data(root: Path) -> dict[str, Entry]:
    """Copy data files: mke2fs's defaults, and the certificate authorities in the one file that curl opens."""
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    return {
        "etc/mke2fs.conf": Entry(0o644, _unpacked(root, "etc/mke2fs.conf").read_bytes()),
        "etc/ssl/certs/ca-certificates.crt": Entry(0o644, b"".join(path.read_bytes() for path in authorities)),
    }


def _pam_module(root: Path, name: str) -> Path:
    """Find a PAM module, whose directory depends on architecture and release."""
    found = sorted(root.glob(f"**/security/{name}"))
    return found[0] if found else _unpacked(root, f"lib/security/{name}")


def _unpacked(root: Path, place: str) -> Path:
    """Find a program below /usr/bin or /bin, which differs between releases."""
    for path in (root / place, root / "usr" / place, root / place.removeprefix("usr/")):
        if path.is_file():
            return path
    raise DockstackError(
        f"The distribution's packages lack /{place}.", "The base image is built on Debian 12: import another image."
    )
