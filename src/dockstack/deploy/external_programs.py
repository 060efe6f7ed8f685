# SPDX-License-Identifier: Apache-2.0
"""The programs of the distribution that dockstack calls, and which command needs each.

A minimal system (debootstrap --variant=minbase) has those of ``MINIMAL``. What else ``up`` needs, its recipes install;
other commands, which may run beside a cloud that ``up`` did not make, say what is missing before they start.
"""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple

from dockstack.deploy import distributions
from dockstack.errors import DockstackError

MINIMAL = frozenset(
    """
    apt-get awk base64 basename blkid cat chmod chown chroot cp cut date dpkg dpkg-deb dpkg-query echo env fallocate
    find findmnt flock
    getent gpasswd grep groupadd groupdel head hostname id install kill ldd ln losetup ls mkdir mount mountpoint mv
    nproc nsenter prlimit printf pwd readlink rm rmdir runuser sed seq setpriv sh sha256sum sleep stat su sync tail tar
    test timeout touch true umask umount unshare useradd userdel usermod wc xargs
    """.split()  # noqa: SIM905 - a list of fifty words is easier read so
)
"""What every Debian has: essential and required packages."""

ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"  # not everybody has them in PATH


class Program(NamedTuple):
    """A program that is no part of a minimal system; distributions.py says which package has it."""

    name: str
    needed_by: tuple[str, ...]  # dockstack's commands


PROGRAMS = (
    Program("cryptsetup", ("up",)),
    Program("dockerd", ("up",)),
    Program("docker", ("up", "status", "clean")),
    Program("dropbear", ("up",)),
    Program("dropbearkey", ("up",)),
    Program("e2fsck", ("up",)),
    Program("epmd", ("up",)),
    Program("fsck.fat", ("up",)),
    Program("ethtool", ("up",)),
    Program("haproxy", ("up",)),
    Program("ip", ("up", "clean")),
    Program("iptables", ("up", "clean")),
    Program("lxcfs", ("up",)),
    Program("mariadbd", ("up",)),
    Program("memcached", ("up",)),
    Program("modprobe", ("up",)),
    Program("ovn-controller", ("up",)),
    Program("ovn-northd", ("up",)),
    Program("ovn-sbctl", ("up",)),
    Program("ovsdb-tool", ("up",)),
    Program("ovs-vsctl", ("up", "clean", "bench boot")),
    Program("ovs-vswitchd", ("up",)),
    Program("ping", ("tempest",)),  # tempest/common/utils/net_utils.py calls it
    Program("ps", ("up",)),
    Program("python3", ("up",)),
    Program("qemu-storage-daemon", ("up",)),
    Program("ssh-keygen", ("up",)),
    Program("sysctl", ("up",)),
    Program("sudo", ("up",)),
)

SUPERVISORS = frozenset({"systemctl"})
"""Called only where it is the supervisor that was chosen."""


def require(command: str) -> None:
    """Refuse to start a command that would fail half-way for want of a program.

    Raises:
        DockstackError: naming the packages.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{ADMINISTRATORS}"
    missing = [one for one in PROGRAMS if command in one.needed_by and shutil.which(one.name, path=path) is None]
    if missing:
        names = ", ".join(one.name for one in missing)
        distribution = distributions.recognise(distributions.here()) or distributions.DEBIAN_12
        raise DockstackError(
            f"`dockstack {command}` needs {names}, which this machine does not have.",
            f"{distribution.manager.install} {' '.join(distribution.packages_of(*(one.name for one in missing)))}",
        )
