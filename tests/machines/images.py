# SPDX-License-Identifier: Apache-2.0
"""The systems of machines: trees made by debootstrap, kept outside the checkout, made anew when their recipe changes.

A tree is never written to after it is made: machines lay their own files over it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from dockstack.deploy import distributions
from dockstack.deploy.recipes import packages

CACHE = Path(os.environ.get("DOCKSTACK_MACHINES", "/var/cache/dockstack-machines"))
SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
# What somebody has who installs Debian on a server, as far as it matters here.
SERVER = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "python3"),
    *("ca-certificates", "iproute2", "kmod", "less", "procps"),
)
HYPERVISOR = ("docker", "dockerd", "lxcfs", "dropbear", "ssh-keygen", "venv")  # what else recipes install
# Each machine makes its own of these; those of an image would be everybody's.
OWN = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/ssh/ssh_host_*", "/etc/hostname", "/etc/resolv.conf")
FINISH = """\
set -eu
apt-get -q update
apt-get -qy --no-install-recommends --download-only install {packages}
rm -f {own}
"""


def tree(distribution: str) -> Path:
    """Return the tree of a distribution, made if it is not there; whoever makes it already is waited for."""
    CACHE.mkdir(parents=True, exist_ok=True)
    suite = SUITES[distribution]
    downloads = _downloads(distribution)
    recipe = repr((suite, SERVER, downloads, OWN, FINISH))
    place = CACHE / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with _locked(CACHE / f"{suite}.lock"):
        if not place.exists():
            for old in CACHE.glob(f"{suite}-*"):
                _remove(old)
            _make(suite, place, downloads)
    return place


def shared(name: str) -> Path:
    """Return a directory that all machines of all runs may fill, for what is slow to fetch."""
    place = CACHE / name
    place.mkdir(parents=True, exist_ok=True)
    return place


def _downloads(distribution: str) -> list[str]:
    """Return the packages of a whole cloud, which lie ready in a machine as if its mirror were near."""
    table = next(one for one in distributions.ALL if one.name == distribution)
    needed = (*packages.EVERYWHERE, *packages.CONTROLLER, *packages.METADATA, *packages.COMPUTE, *HYPERVISOR)
    return sorted(table.packages_of(*needed))


def _make(suite: str, place: Path, downloads: list[str]) -> None:
    part = place.with_name(f"{place.name}.part")
    include = f"--include={','.join(SERVER)}"
    _run("debootstrap", "--variant=minbase", include, suite, str(part))
    script = FINISH.format(packages=" ".join(downloads), own=" ".join(OWN))
    _run("chroot", str(part), "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", script)
    part.rename(place)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command[:2])} failed:\n{done.stdout[-3000:]}"


def _remove(place: Path) -> None:
    """Remove a tree; one whose making was killed has mounts in it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{place}/")]):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(place)


@contextmanager
def _locked(path: Path):
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
