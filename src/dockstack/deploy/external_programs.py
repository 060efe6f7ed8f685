# SPDX-License-Identifier: Apache-2.0
"""The programs of the distribution that dockstack calls: which package has each, and which command needs it.

A minimal system (debootstrap --variant=minbase) has those of ``MINIMAL``. What else ``up`` needs, its recipes install;
other commands, which may run beside a cloud that ``up`` did not make, say what is missing before they start.
"""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple

from dockstack.errors import DockstackError

MINIMAL = frozenset(
    """
    apt-get awk basename blkid cat chmod chown cp cut dpkg dpkg-query echo env fallocate find findmnt flock getent
    gpasswd grep groupadd groupdel head hostname id install kill ln losetup ls mkdir mount mountpoint mv nproc nsenter
    prlimit printf pwd readlink rm runuser sed seq setpriv sh sha256sum sleep stat su sync tail test timeout touch
    true umask umount unshare useradd userdel usermod wc xargs
    """.split()  # noqa: SIM905 - a list of fifty words is easier read so
)
"""What every Debian has: essential and required packages."""

ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"  # not everybody has them in PATH


class Program(NamedTuple):
    """A program that is no part of a minimal system."""

    name: str
    package: str
    needed_by: tuple[str, ...]  # dockstack's commands


PROGRAMS = (
    Program("dockerd", "docker.io", ("up",)),
    Program("docker", "docker.io", ("up", "status", "clean")),
    Program("dropbear", "dropbear-bin", ("up",)),
    Program("dropbearkey", "dropbear-bin", ("up",)),
    Program("epmd", "rabbitmq-server", ("up",)),  # by way of Erlang, on which it depends
    Program("ethtool", "ethtool", ("up",)),
    Program("haproxy", "haproxy", ("up",)),
    Program("ip", "iproute2", ("up", "clean")),
    Program("iptables", "iptables", ("up", "clean")),
    Program("lxcfs", "lxcfs", ("up",)),
    Program("mariadbd", "mariadb-server-core", ("up",)),
    Program("memcached", "memcached", ("up",)),
    Program("modprobe", "kmod", ("up",)),
    Program("ovn-controller", "ovn-host", ("up",)),
    Program("ovn-northd", "ovn-central", ("up",)),
    Program("ovn-sbctl", "ovn-central", ("up",)),
    Program("ovsdb-tool", "openvswitch-switch", ("up",)),  # by way of openvswitch-common, on which it depends
    Program("ovs-vsctl", "openvswitch-switch", ("up", "clean", "bench boot")),
    Program("ovs-vswitchd", "openvswitch-switch", ("up",)),
    Program("ping", "iputils-ping", ("tempest",)),  # tempest/common/utils/net_utils.py calls it
    Program("ps", "procps", ("up",)),
    Program("python3", "python3", ("up",)),
    Program("ssh-keygen", "openssh-client", ("up",)),
    Program("sysctl", "procps", ("up",)),
    Program("sudo", "sudo", ("up",)),
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
        packages = " ".join(dict.fromkeys(one.package for one in missing))
        raise DockstackError(
            f"`dockstack {command}` needs {names}, which this machine does not have.",
            f"apt-get install --no-install-recommends {packages}",
        )
