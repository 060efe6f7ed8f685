# SPDX-License-Identifier: Apache-2.0
"""What a system image is made of: its packages, where they come from, and what of it is ours; pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from dockstack.deploy.base_image import base
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.resources.abc import Traversable

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
USER = "debian"  # cloud-init's own default
MEMORY_MB = 128  # twice of what it has ever used at its first boot
ESSENTIAL = ("?essential", "usr-is-merged")
"""What every package may use without saying so; apt's patterns. The second one spares the image all of Perl."""

SERVER = (
    *("?priority(required)", "apt", "systemd", "systemd-sysv", "dbus", "cloud-init", "openssh-server", "sudo"),
    *("ca-certificates", "curl", "iproute2", "iputils-ping", "less", "netbase", "procps"),
)
PROCESS: dict[str, Any] = {
    "Cmd": ["/sbin/init"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "StopSignal": "SIGRTMIN+3",  # systemd(1): shut down
    "Labels": {"org.opencontainers.image.title": "dockstack system image"},
}
_VERSIONS = {"bookworm": "12", "trixie": "13"}
SUITES = tuple(_VERSIONS)
_LIB64 = frozenset({"amd64", "ppc64el"})  # whose ABI wants the dynamic loader in /lib64
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]")  # Debian's policy, 5.6.7; apt removes what ends with a dash
_ADDRESS = re.compile(r"[^\s\[\]]+")
_EXECUTABLE = 0o755


@dataclass(frozen=True)
class Mirrors:
    """Where packages come from.

    Attributes:
        archive: Debian's own; with a user and password, if it wants such.
        security: where updates for security come from; empty: there are none to be had.
    """

    archive: str
    security: str = ""

    def __post_init__(self) -> None:
        """Refuse what would be more than an address in a file of sources.

        Raises:
            DockstackError: one is no URL.
        """
        for uri in filter(None, (self.archive, self.security)):
            if not urlsplit(uri).scheme or not _ADDRESS.fullmatch(uri):
                raise DockstackError(f"{_without_secret(uri)!r} is no address of a mirror.", "Give one with --mirror.")

    def sources(self, suite: str, *, inside: bool = False) -> str:
        """Write a file for sources.list.d, for apt on this machine, or for the one inside the image without secrets."""
        lines = [(self.archive, name) for name in (suite, f"{suite}-updates")]
        lines += [(self.security, f"{suite}-security")] if self.security else []
        return "".join(
            f"deb [signed-by={KEYRING}] {_without_secret(uri) if inside else uri} {name} main\n" for uri, name in lines
        )


def _without_secret(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def machine_mirrors(targets: str) -> Mirrors | None:
    """Find Debian's archives among those that this machine's apt uses; None if it has no such.

    Args:
        targets: lines of ``apt-get indextargets``: origin, label, component and address, with tabs between.
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        origin, label, component, uri = line.split("\t")
        if origin == "Debian" and component == "main":
            found.setdefault(label, uri.rstrip("/"))
    return Mirrors(found["Debian"], found.get("Debian-Security", "")) if "Debian" in found else None


@dataclass(frozen=True)
class Recipe:
    """One image to be built.

    Attributes:
        suite: Debian's code name.
        architecture: Debian's name of it.
        more: further packages.
    """

    suite: str
    architecture: str
    more: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be an option or a pattern for apt.

        Raises:
            DockstackError: a package's name is none.
        """
        for name in self.more:
            if not _PACKAGE.fullmatch(name):
                raise DockstackError(f"{name!r} is no name of a package.", "Write names as `apt-cache search` does.")

    @property
    def name(self) -> str:
        """The image's name, if nobody chooses another."""
        return f"debian-{self.suite}"

    @property
    def packages(self) -> tuple[str, ...]:
        """All that apt is asked for."""
        return (*ESSENTIAL, *SERVER, *self.more)

    @property
    def essential(self) -> tuple[str, ...]:
        """What every package may use without saying so."""
        return ESSENTIAL

    @property
    def lib64(self) -> str:
        """The name of that directory, where the architecture has it."""
        return "lib64" if self.architecture in _LIB64 else ""

    def properties(self) -> dict[str, str]:
        """Return Glance's properties of the image, in the words of its metadata definitions."""
        return {"os_distro": "debian", "os_version": _VERSIONS[self.suite], "os_admin_user": USER}

    def key(self, archives: Iterable[str], sources: str) -> str:
        """Name what an image of these packages would be: other packages, files or code of ours, another name."""
        state = hashlib.sha256()
        for text in (*sorted(archives), sources, self.architecture):
            state.update(f"{text}\0".encode())
        for name, data, _ in _own_files(_here()):
            state.update(f"{name}\0{len(data)}\0".encode() + data)
        return state.hexdigest()[:32]

    def files(self, sources: str) -> bytes:
        """Write our own files as a tar; ``finish.sh`` is run and removed in the end."""
        tree = {
            name.removeprefix("rootfs/"): base.Entry(mode, data)
            for name, data, mode in _own_files(_here())
            if name.startswith("rootfs/")
        }
        tree["usr/lib/dockstack/finish"] = base.Entry(_EXECUTABLE, (_here() / "finish.sh").read_bytes())
        tree["etc/apt/sources.list.d/debian.list"] = base.Entry(0o644, sources.encode())
        return base.layer_tar(tree)


def _here() -> Traversable:
    return resources.files("dockstack.deploy.system_image")


def _own_files(folder: Traversable, prefix: str = "") -> Sequence[tuple[str, bytes, int]]:
    """List the files that decide about the image: name, content, mode."""
    found: list[tuple[str, bytes, int]] = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir() and entry.name != "__pycache__":
            found += _own_files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file() and (prefix or entry.name.endswith(".sh") or entry.name == "recipe.py"):
            data = entry.read_bytes()
            found.append((f"{prefix}{entry.name}", data, _EXECUTABLE if data.startswith(b"#!") else 0o644))
    return found
