# SPDX-License-Identifier: Apache-2.0
"""What differs between distributions, as data: names of packages, units and accounts, and paths.

Recipes ask for what they need, mostly a program; the table of a distribution says what that is called there. What is
the same in all of them stands where it is used. Another distribution is another entry of ``ALL``, and no branch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

OS_RELEASE = "/etc/os-release"
AUTOMATIC = "auto"  # the attribute's value for looking at the machine


@dataclass(frozen=True)
class PackageManager:
    """How packages are asked about and removed; pyinfra installs them.

    Attributes:
        program: what a machine must have for it.
        install: what a person types before the names.
        versions: what, before the names, prints a line "name installed version" for each that is installed.
        purge: removes packages with their configuration and data.
        remove: removes packages only.
        superfluous: lists, in lines "Remv name ...", those that nobody needs any more; empty if ``purge`` takes them.
        locks: files that it locks as fcntl(2) does while it works, if it does not wait for all of them itself.
    """

    program: str
    install: str
    versions: tuple[str, ...]
    purge: tuple[str, ...]
    remove: tuple[str, ...]
    superfluous: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()


APT = PackageManager(
    program="apt-get",
    install="apt-get install --no-install-recommends",
    versions=("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\\n"),
    purge=("apt-get", "-qy", "purge"),
    remove=("apt-get", "-qy", "remove"),
    superfluous=("apt-get", "-s", "autoremove"),
    locks=("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend"),
)
DNF = PackageManager(
    program="dnf",
    install="dnf install",
    versions=("rpm", "-q", "--queryformat", "%{NAME} installed %{VERSION}-%{RELEASE}\\n"),
    purge=("dnf", "-qy", "remove"),
    remove=("dnf", "-qy", "remove", "--noautoremove"),
)


@dataclass(frozen=True)
class Distribution:
    """One distribution in one version.

    Attributes:
        name: the attribute's value for it.
        title: as people say it.
        ids: what os-release may have as ID.
        version: what os-release has as VERSION_ID, or that up to its first dot; "" where it has none.
        packages: what is needed, a program unless said otherwise -> the package that brings it.
        units: a program -> the units that its package starts by itself, those first that would start others.
        paths: a program -> where it is.
        accounts: a program -> the user that its package makes for it.
        end_statuses: a program -> the exit statuses besides 0 with which it ends as asked.
        openstack: packages of the distribution's own OpenStack, which must not be there.
        python: the interpreter that environments are made with.
        manager: of packages.
        proven: what has been, where it is less than a whole cloud with each change; "" where it is that.
    """

    name: str
    title: str
    ids: tuple[str, ...]
    version: str
    packages: Mapping[str, str]
    units: Mapping[str, tuple[str, ...]]
    paths: Mapping[str, str]
    accounts: Mapping[str, str]
    openstack: tuple[str, ...]
    end_statuses: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    python: str = "/usr/bin/python3"
    manager: PackageManager = APT
    proven: str = ""

    def packages_of(self, *needed: str) -> tuple[str, ...]:
        """Return the packages that bring what is needed, each once."""
        return tuple(dict.fromkeys(self.packages[one] for one in needed))


NAMES_ONLY = "the names of its packages and units are, in tests without such a machine"

DEBIAN_12 = Distribution(
    name="debian-12",
    title="Debian 12",
    ids=("debian",),
    version="12",
    packages={
        "conntrack": "conntrack",
        "cryptsetup": "cryptsetup-bin",
        "docker": "docker.io",
        "dockerd": "docker.io",
        "dropbear": "dropbear-bin",
        "dropbearkey": "dropbear-bin",
        "e2fsck": "e2fsprogs",
        "fsck.fat": "dosfstools",
        "epmd": "rabbitmq-server",  # by way of Erlang, on which it depends
        "ethtool": "ethtool",
        "fonts": "fonts-dejavu-core",  # which VNC consoles are written with
        "haproxy": "haproxy",
        "ip": "iproute2",
        "iptables": "iptables",
        "lxcfs": "lxcfs",
        "mariadb": "mariadb-client-core",
        "mariadbd": "mariadb-server-core",
        "memcached": "memcached",
        "mkfs.btrfs": "btrfs-progs",
        "mkfs.xfs": "xfsprogs",
        "modprobe": "kmod",
        "ovn-controller": "ovn-host",
        "ovn-northd": "ovn-central",
        "ovn-sbctl": "ovn-central",
        "ovs-vsctl": "openvswitch-switch",
        "ovs-vswitchd": "openvswitch-switch",
        "ovsdb-tool": "openvswitch-switch",  # by way of openvswitch-common, on which it depends
        "ping": "iputils-ping",
        "ps": "procps",
        "python3": "python3",
        "qemu-img": "qemu-utils",
        "qemu-storage-daemon": "qemu-system-common",
        "rabbitmq-server": "rabbitmq-server",
        "ssh-keygen": "openssh-client",
        "sudo": "sudo",
        "sysctl": "procps",
        "venv": "python3-venv",  # Python's module
    },
    units={
        "epmd": ("epmd.socket", "epmd.service"),
        "haproxy": ("haproxy.service",),
        "lxcfs": ("lxcfs.service",),
        "memcached": ("memcached.service",),
        "ovn-controller": ("ovn-host.service", "ovn-controller.service"),
        "ovn-northd": (
            *("ovn-central.service", "ovn-northd.service"),
            *("ovn-ovsdb-server-nb.service", "ovn-ovsdb-server-sb.service"),
        ),
        # An upgrade of the package starts the second, and by it the others, also where the first is masked.
        "ovs-vswitchd": (
            *("openvswitch-switch.service", "ovs-record-hostname.service"),
            *("ovs-vswitchd.service", "ovsdb-server.service"),
        ),
        "rabbitmq-server": ("rabbitmq-server.service",),
    },
    paths={"mariadbd": "/usr/sbin/mariadbd"},
    accounts={"memcached": "memcache"},
    openstack=("nova-common", "keystone-common", "glance-common", "placement-common", "neutron-common"),
)

DEBIAN_13 = replace(
    DEBIAN_12,
    name="debian-13",
    title="Debian 13",
    version="13",
    packages={**DEBIAN_12.packages, "docker": "docker-cli"},
    end_statuses={"lxcfs": (1,)},  # LXCFS 6, on SIGTERM
    proven="a cloud came up on it, once",
)

SID = replace(DEBIAN_13, name="debian-sid", title="Debian sid", version="", proven=NAMES_ONLY)

UBUNTU_24_04 = replace(
    DEBIAN_12,
    name="ubuntu-24.04",
    title="Ubuntu 24.04",
    ids=("ubuntu",),
    version="24.04",
    end_statuses=DEBIAN_13.end_statuses,
    proven=NAMES_ONLY,
)

# The engine is Docker's own, Open vSwitch and OVN are RDO's, LXCFS and dropbear EPEL's: their repositories must be
# there. The default Python of the distribution is older than any that the services run on.
RHEL_9 = Distribution(
    name="rhel-9",
    title="RHEL 9",
    ids=("rhel", "almalinux", "centos", "ol", "rocky"),
    version="9",
    packages={
        **DEBIAN_12.packages,
        "conntrack": "conntrack-tools",
        "cryptsetup": "cryptsetup",
        "docker": "docker-ce-cli",
        "dockerd": "docker-ce",
        "dropbear": "dropbear",
        "qemu-img": "qemu-img",
        "qemu-storage-daemon": "qemu-img",
        "dropbearkey": "dropbear",
        "fonts": "dejavu-sans-mono-fonts",
        "ip": "iproute",
        "iptables": "iptables-nft",
        "mariadb": "mariadb",
        "mariadbd": "mariadb-server",
        "ovs-vsctl": "openvswitch",
        "ovs-vswitchd": "openvswitch",
        "ovsdb-tool": "openvswitch",
        "ping": "iputils",
        "ps": "procps-ng",
        "python3": "python3.12",
        "ssh-keygen": "openssh",
        "sysctl": "procps-ng",
        "venv": "python3.12",
    },
    units={
        **DEBIAN_12.units,
        "mariadbd": ("mariadb.service",),
        "ovn-controller": ("ovn-controller.service",),
        "ovn-northd": ("ovn-northd.service",),
        "ovs-vswitchd": ("openvswitch.service",),
    },
    paths={"mariadbd": "/usr/libexec/mariadbd"},
    accounts={"memcached": "memcached"},
    openstack=(
        *("openstack-nova-common", "openstack-keystone", "openstack-glance", "openstack-placement-common"),
        "openstack-neutron-common",
    ),
    python="/usr/bin/python3.12",
    manager=DNF,
    proven=NAMES_ONLY,
)

ALL = (DEBIAN_12, DEBIAN_13, SID, UBUNTU_24_04, RHEL_9)
NAMES = tuple(each.name for each in ALL)


def choose(wanted: str, os_release: str) -> Distribution:
    """Return the distribution that an attribute names, or the one that a machine says it is.

    Args:
        wanted: one of ``NAMES``, or "auto".
        os_release: the text of the machine's /etc/os-release.

    Raises:
        DockstackError: none of ours is meant.
    """
    found = recognise(os_release) if wanted == AUTOMATIC else next(each for each in ALL if each.name == wanted)
    if found is not None:
        return found
    said = _fields(os_release)
    name = said.get("PRETTY_NAME") or " ".join(filter(None, (said.get("ID"), said.get("VERSION_ID"))))
    raise DockstackError(
        f"{name or 'A system without a name'} is none of those that dockstack knows: "
        f"{', '.join(each.title for each in ALL)}.",
        f"Use one of them. If it has the packages of one, say so: --set distribution={DEBIAN_12.name}",
    )


def recognise(os_release: str) -> Distribution | None:
    """Return the distribution that a machine says it is; None if it is none of ours."""
    said = _fields(os_release)
    return next((each for each in ALL if _is(each, said)), None)


def here() -> str:
    """Return this machine's os-release; empty if it has none."""
    try:
        return Path(OS_RELEASE).read_text()
    except FileNotFoundError:
        return ""


def _is(one: Distribution, said: Mapping[str, str]) -> bool:
    version = said.get("VERSION_ID", "")
    return said.get("ID") in one.ids and one.version in {version, version.partition(".")[0]}


def _fields(os_release: str) -> dict[str, str]:
    """Parse os-release(5), as far as its values are plain or quoted whole."""
    pairs = (line.partition("=") for line in os_release.splitlines())
    return {name: value.strip("\"'") for name, separator, value in pairs if separator}
