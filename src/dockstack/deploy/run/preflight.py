# SPDX-License-Identifier: Apache-2.0
"""What would stop `up` half-way, said before anything is changed, all at once and each with its cure.

``gather`` looks at the machine; ``problems`` decides, and is pure.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockstack.deploy import distributions, paths
from dockstack.deploy.configuration import registry
from dockstack.deploy.configuration.barbican import CONF as BARBICAN_CONF
from dockstack.deploy.configuration.cinder import CONF as CINDER_CONF
from dockstack.deploy.configuration.glance import UNFILTERED
from dockstack.deploy.distributions import APT, DEBIAN_12, Distribution
from dockstack.deploy.hypervisors import chosen, engine_obstacles, storage_obstacles
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.hypervisors.storage_obstacles import StorageFacts
from dockstack.deploy.node import listeners
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.recipes import barbican, cinder
from dockstack.deploy.recipes.facts import LOOPBACK, REGISTRY_PORT
from dockstack.deploy.run import tls_obstacles, volume_obstacles
from dockstack.deploy.run.volume_obstacles import VolumeFacts
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.wanted.attributes import DEFAULT
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.deploy.node.listeners import Listener
    from dockstack.deploy.wanted.inventory import Node

MIB = 1024 * 1024
LEAST_MEMORY_MB = 3000  # for a whole cloud
LEAST_NODE_MEMORY_MB = 1500  # for a compute node of another one
LEAST_DISK_MB = 4500
NO_PYTHON = (0, 0)
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)  # those that the locks are for; as in pyproject.toml
FOREIGN_FILES = (
    "/etc/nova/nova.conf",
    "/etc/keystone/keystone.conf",
    "/etc/glance/glance-api.conf",
    "/etc/placement/placement.conf",
    "/etc/neutron/neutron.conf",
)
CONTROLLER_PORTS = (
    *("ports.keystone", "ports.glance", "ports.placement", "ports.nova", "ports.metadata", "ports.neutron"),
    *("ports.rabbitmq", "ports.rabbitmq_distribution", "ports.epmd", "ports.serial_console", "ports.novnc"),
)
OVN_PORTS = ("ports.ovn_northbound", "ports.ovn_southbound")  # sockets do where nobody else comes in


@dataclass(frozen=True)
class Problem:
    """Something that would stop us, and its cure; a warning does not."""

    brief: str
    cure: str
    warning: bool = False


@dataclass(frozen=True)
class MachineFacts:
    """What the machine is like."""

    root: bool = True
    distribution: Distribution | Problem = DEBIAN_12
    package_manager: bool = True
    python: tuple[int, int] = (3, 11)  # (0, 0): there is none
    memory_mb: int = 8000
    disk_mb: Mapping[str, int] = field(default_factory=dict)  # path -> free
    listeners: tuple[Listener, ...] = ()
    network_namespaces: bool = True
    tun: bool = True
    foreign_openstack: tuple[str, ...] = ()
    neighbours: Mapping[str, str] = field(default_factory=dict)  # network or address in use -> by what
    installed: bool = False  # a run of ours completed its packages before
    certificate_failure: str = ""  # what is wrong with the operator's
    registry_port: str = ""  # that of a registry which ran before
    commissioned: bool = False  # it is a compute node of another cloud, made by us
    storage: StorageFacts = field(default_factory=StorageFacts)
    volumes: VolumeFacts = field(default_factory=VolumeFacts)
    engine: EngineFacts = field(default_factory=EngineFacts)


def check(node: Node) -> None:
    """Look and decide; warnings are printed.

    Raises:
        DockstackError: something would stop us; it names everything at once.
    """
    _refuse(problems(node, gather(node)))


def check_hypervisor(node: Node) -> None:
    """Do so for the hypervisor alone: the OpenStack that is here is not ours to make.

    Raises:
        DockstackError: as ``check`` does.
    """
    facts = gather(node)
    _refuse([*_system(facts), *_hypervisor(node, facts)])


def _refuse(found: list[Problem]) -> None:
    for problem in found:
        if problem.warning:
            click.echo(f"warning: {problem.brief} {problem.cure}", err=True)
    fatal = [problem for problem in found if not problem.warning]
    if not fatal:
        return
    if len(fatal) == 1:
        raise DockstackError(fatal[0].brief, fatal[0].cure)
    details = "\n".join(f"- {problem.brief}\n  {problem.cure}" for problem in fatal)
    raise DockstackError(
        f"{len(fatal)} things stand in the way; nothing was changed.",
        "Cure each as its line says, then try again.",
        details,
    )


def problems(node: Node, facts: MachineFacts) -> list[Problem]:
    """Return all that stands in the way."""
    found = [*_system(facts), *_resources(node, facts), *_foreign(facts)]
    if node.has(Role.CONTROLLER):
        found += _commissioned() if facts.commissioned else []
        found += _base_image(facts.distribution)
        found += _system_images(node, facts.distribution)
        found += _ports(node, facts.listeners)
        found += _registry(node, facts.registry_port)
        tls = tls_obstacles.obstacles(node.attributes, facts.certificate_failure, facts.listeners)
        found += [Problem(*obstacle) for obstacle in tls]
        found += [Problem(*each) for each in volume_obstacles.obstacles(node.attributes, facts.volumes)]
    if node.has(Role.CONTROLLER) or node.has(Role.NETWORK):
        found += _networks(node, facts.neighbours)
    return [*found, *_hypervisor(node, facts)]


def _commissioned() -> list[Problem]:
    brief = "This machine is a compute node of another cloud, which `dockstack node add` made it."
    return [Problem(brief, "Use another one; or take it out there, and remove what is here: dockstack clean")]


def _system(facts: MachineFacts) -> Iterable[Problem]:
    if not facts.root:
        yield Problem("dockstack needs root to install services.", "Run it as root, as in: sudo ./dockstack up")
    if isinstance(facts.distribution, Problem):
        yield facts.distribution
    else:
        yield from _distribution(facts, facts.distribution)
    if not facts.network_namespaces:
        yield Problem("The kernel has no network namespaces.", "Boot one with CONFIG_NET_NS.")
    if not facts.tun:
        yield Problem(
            "There is no /dev/net/tun, which Open vSwitch needs.",
            "Load the module (modprobe tun); in a container, give it the device (--device /dev/net/tun).",
        )


def _distribution(facts: MachineFacts, distribution: Distribution) -> Iterable[Problem]:
    manager = distribution.manager
    if not facts.package_manager:
        yield Problem(
            f"There is no {manager.program} here, with which {distribution.title} installs packages.",
            "Use Debian 12, or a system that is like it.",
        )
    if distribution.proven:
        yield Problem(
            f"{distribution.title} is not tested as Debian 12 is: {distribution.proven}.",
            "Going on all the same.",
            warning=True,
        )
    if facts.python == NO_PYTHON:
        needed = " ".join(distribution.packages_of("python3"))
        yield Problem(f"There is no {distribution.python}.", f"Install it: {manager.install} {needed}")
    elif not OLDEST_PYTHON <= facts.python <= NEWEST_PYTHON:
        text = ".".join(map(str, facts.python))
        yield Problem(f"{distribution.python} is {text}; the locks are for 3.11 to 3.14.", "Use Debian 12 or 13.")


def _base_image(distribution: Distribution | Problem) -> Iterable[Problem]:
    if isinstance(distribution, Distribution) and distribution.manager is not APT:
        yield Problem(
            f"A controller cannot run on {distribution.title} yet: its base image is built from Debian's packages.",
            "Make this machine a compute node of a cloud whose controller runs on Debian.",
        )


def _system_images(node: Node, distribution: Distribution | Problem) -> Iterable[Problem]:
    wanted = node.attributes.items("image.system")
    if wanted and isinstance(distribution, Distribution) and "debian" not in distribution.ids:
        yield Problem(
            f"image.system: {distribution.title}'s package manager has no archive of Debian to build them from.",
            f"Set it to []; later: dockstack image build debian --suite {wanted[0]} --mirror URL --import --public",
        )


def _resources(node: Node, facts: MachineFacts) -> Iterable[Problem]:
    what, least = ("an idle cloud takes about 2.5 GiB", LEAST_MEMORY_MB)
    if not node.has(Role.CONTROLLER):
        what, least = ("a node's services take about 1 GiB", LEAST_NODE_MEMORY_MB)
    if facts.memory_mb < least:
        yield Problem(
            f"{facts.memory_mb} MiB of memory are too little; {what}.",
            f"Give the machine at least {least} MiB, better 8 GiB.",
        )
    if facts.installed:
        return
    for path, free in facts.disk_mb.items():
        if free < LEAST_DISK_MB:
            yield Problem(
                f"{path} has {free} MiB free; packages, services and a first image take {LEAST_DISK_MB} MiB.",
                "Make room there, or give it a disk of its own.",
            )


def _hypervisor(node: Node, facts: MachineFacts) -> Iterable[Problem]:
    if isinstance(chosen(node), Docker):
        if node.has(Role.CONTROLLER):
            for both in volume_obstacles.beside_servers(node.attributes, facts.volumes, facts.storage):
                yield Problem(*both)
        for obstacle in storage_obstacles.obstacles(node.attributes, facts.storage):
            yield Problem(*obstacle)
        for obstacle in engine_obstacles.obstacles(node.attributes, facts.engine):
            yield Problem(*obstacle)


def _foreign(facts: MachineFacts) -> Iterable[Problem]:
    if facts.foreign_openstack:
        yield Problem(
            f"There is an OpenStack here that dockstack did not make: {', '.join(facts.foreign_openstack)}.",
            "dockstack does not touch it. Use another machine, or remove it first.",
        )


def _ports(node: Node, listening: Iterable[Listener]) -> Iterable[Problem]:
    address = node.attributes.text("listen_address")
    places = {address, LOOPBACK} if node.attributes.flag("tls.enable") else {address}
    wanted = dict.fromkeys((*CONTROLLER_PORTS, *(OVN_PORTS if address != LOOPBACK else ())), places)
    if registry.wanted(node.attributes):
        wanted["ports.registry"] = {*places, LOOPBACK}
    if node.attributes.flag("volumes.enable"):
        wanted["ports.cinder"] = places
    if node.attributes.flag("key_manager.enable"):
        wanted["ports.barbican"] = places
    if node.attributes.flag("telemetry.prometheus"):
        wanted["ports.exporter"] = {node.attributes.text("telemetry.address")}
    for name, addresses in wanted.items():
        port = node.attributes.number(name)
        for listener in listening:
            taken = any(_collide(listener.address, one) for one in addresses)
            if listener.port == port and not listener.ours and taken:
                yield Problem(
                    f"Port {port} ({name}) is taken by {listener.program} (pid {listener.pid}).",
                    f"Stop it, or choose another port: --set {name}={_free_port(port, listening)}",
                )
                break


def _registry(node: Node, former_port: str) -> Iterable[Problem]:
    asked = node.attributes.setting("registry.enable")
    if not asked.value:
        return
    release, port = node.attributes.text("release"), node.attributes.number("ports.registry")
    if former_port not in ("", str(port)):
        yield Problem(
            f"The registry's port is to be {port}; images that were pushed are read at port {former_port}.",
            f"Leave it as it was: --set ports.registry={former_port}",
        )
    if release in UNFILTERED and asked.source != DEFAULT:
        yield Problem(
            f"Glance of {release} would read for any project whatever this machine can reach, if there is a registry.",
            "Leave it off (--set registry.enable=false), or choose a later release.",
        )


def _collide(one: str, other: str) -> bool:
    wild = {"0.0.0.0", "::"}
    return one == other or one in wild or other in wild


def _free_port(port: int, listening: Iterable[Listener]) -> int:
    taken = {listener.port for listener in listening}
    return next(candidate for candidate in range(port + 10000, 65536) if candidate not in taken)


def _networks(node: Node, neighbours: Mapping[str, str]) -> Iterable[Problem]:
    for name in ("network.external_cidr", "network.tenant_cidr", "network.automatic_cidr"):
        wanted = ipaddress.ip_network(node.attributes.text(name))
        for text, what in neighbours.items():
            used = ipaddress.ip_network(text, strict=False)
            if used.version == wanted.version and used.prefixlen and wanted.overlaps(used):
                yield Problem(
                    f"{name} {wanted} overlaps {text}, which this machine uses ({what}).",
                    f"Choose a range that nothing here uses: --set {name}=192.168.212.0/24"
                    + (" --set network.external_gateway=192.168.212.1" if "external" in name else ""),
                )
                break


def by_subject(node: Node, facts: MachineFacts) -> dict[str, list[Problem]]:
    """Return what stands in the way of any machine, by what it is about: a doctor tells of each apart."""
    controller = node.has(Role.CONTROLLER)
    return {
        "system": list(_system(facts)),
        "resources": list(_resources(node, facts)),
        "foreign": list(_foreign(facts)),
        "ports": [*_ports(node, facts.listeners), *_networks(node, facts.neighbours)] if controller else [],
    }


# -- looking ----------------------------------------------------------------------------------------------------------


def gather(node: Node) -> MachineFacts:
    """Look at this machine; nothing is changed, and nothing takes longer than a moment."""
    distribution = _recognise(node.attributes.text("distribution"))
    known = distribution if isinstance(distribution, Distribution) else DEBIAN_12
    manifest, services = Manifest(paths.STATE_DIRECTORY), Records.here().services()
    return MachineFacts(
        root=os.geteuid() == 0,
        distribution=distribution,
        package_manager=shutil.which(known.manager.program) is not None,
        python=_python_version(known.python),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        disk_mb={path: _free_mb(path) for path in ("/opt", "/var/lib")},
        listeners=listeners.listening(),
        network_namespaces=Path("/proc/self/ns/net").exists(),
        tun=Path("/dev/net/tun").exists() or Path("/sys/module/openvswitch").exists(),
        foreign_openstack=_foreign_openstack(node, manifest, known),
        neighbours=_neighbours(node, manifest),
        installed=Path(paths.LOCK_MARKER).exists(),
        certificate_failure=tls_obstacles.handshake(node.attributes),
        registry_port=manifest.done(REGISTRY_PORT) or "",
        commissioned=Path(paths.COMMISSION).exists(),
        volumes=volume_obstacles.gather(node.attributes, manifest),
        storage=storage_obstacles.gather(node.attributes, manifest, services),
        engine=engine_obstacles.gather(node.attributes, manifest, services),
    )


def _recognise(wanted: str) -> Distribution | Problem:
    try:
        return distributions.choose(wanted, distributions.here())
    except DockstackError as error:
        return Problem(error.brief, error.resolution)


def _python_version(program: str) -> tuple[int, int]:
    line = [program, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        major, minor = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return NO_PYTHON
    return int(major), int(minor)


def _free_mb(path: str) -> int:
    return shutil.disk_usage(path).free // MIB


def _foreign_openstack(node: Node, manifest: Manifest, distribution: Distribution) -> tuple[str, ...]:
    files = [*FOREIGN_FILES]
    files += [CINDER_CONF] if cinder.wanted(node) else []
    files += [BARBICAN_CONF] if barbican.wanted(node) else []
    foreign = [path for path in files if Path(path).exists() and not manifest.ours("file", path)]
    lines = _lines([*distribution.manager.versions, *distribution.openstack])
    return (*foreign, *(line.split()[0] for line in lines if " installed " in line))


def _neighbours(node: Node, manifest: Manifest) -> dict[str, str]:
    """Return networks and addresses that this machine uses, but for those of our own bridge."""
    bridge = node.attributes.text("network.external_bridge")
    found: dict[str, str] = {}
    for line in _lines(["ip", "-o", "route", "show", "table", "main"]):
        words = line.split()
        device = words[words.index("dev") + 1] if "dev" in words else ""
        ours = device == bridge and manifest.ours("bridge", bridge)
        if words and words[0] not in {"default", "unreachable", "blackhole"} and not ours:
            found[words[0]] = f"a route by {device}"
    for path, position in (("/etc/hosts", 0), ("/etc/resolv.conf", 1)):
        found.update(_addresses_in(path, position))
    return found


def _addresses_in(path: str, position: int) -> dict[str, str]:
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) > position and (position == 0 or words[0] == "nameserver"):
            try:
                found[str(ipaddress.ip_address(words[position]))] = path
            except ValueError:
                continue
    return found


def _lines(command: list[str]) -> list[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        return []
