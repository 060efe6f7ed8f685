# SPDX-License-Identifier: Apache-2.0
"""Further compute hosts on this machine: engine, switch, nova-compute and agent in namespaces of their own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dockstack import names
from dockstack.deploy.configuration import desired_state, extra_hosts
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.neutron import STATE_DIRECTORY as NEUTRON_STATE
from dockstack.deploy.configuration.neutron import neutron_conf, ovn_agent_conf
from dockstack.deploy.configuration.nova import STATE_DIRECTORY as NOVA_STATE
from dockstack.deploy.configuration.nova import nova_conf
from dockstack.deploy.configuration.privilege import ROOTWRAP_CONF, ROOTWRAP_FILTERS, rootwrap_conf, rootwrap_filters
from dockstack.deploy.hypervisors import chosen, lxcfs, storage
from dockstack.deploy.hypervisors.docker import DRIVER_STATE, Docker
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.paths import PATCH_DIRECTORY
from dockstack.deploy.recipes import cinder, fabric, host_removal, mounts
from dockstack.deploy.recipes.compute import await_service
from dockstack.deploy.recipes.controller import ask, provision, write_configuration
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.hosts import ExtraHost
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of each further host, and the one that removes those not wanted any more."""
    if chosen(node) is None or not node.has(Role.CONTROLLER):
        return ()
    numbers = range(hosts.FIRST, node.attributes.number("hosts") + 1)
    before, first = cinder.before_hosts(node), mounts.before(node)
    removal = Stage(
        "hosts-removal", "Removing hosts that are not wanted", remove_unwanted, ("nova", "nova-daemons", "identity")
    )
    return (removal, *(stage for number in numbers for stage in _stages_of(f"{hosts.PREFIX}{number}", before, first)))


def _stages_of(key: str, before: tuple[str, ...], first: tuple[str, ...]) -> tuple[Stage, ...]:
    def stage(name: str, title: str, after: tuple[str, ...], phase: str, weight: int = 1) -> Stage:
        return Stage(f"{key}-{name}", f"{title} on {key}", partial(_WORK[name], key=key), after, weight, phase)

    return (
        stage(
            "files", "Configuring Nova and Neutron", ("nova-files", "neutron-files", "hypervisor-install"), "configure"
        ),
        stage(
            "switch",
            "Starting Open vSwitch and OVN",
            (f"{key}-files", "switch", "message-bus", *before),
            "infrastructure",
        ),
        stage("engine", "Starting the engine", (f"{key}-switch", "hypervisor-start"), "start"),
        stage(
            "compute",
            "Starting nova-compute",
            (f"{key}-engine", "compute", *(f"{key}-{name}" for name in first)),
            "services",
        ),
        stage("agent", "Starting Neutron's agent", (f"{key}-switch", "neutron-workers"), "services"),
        stage("ready", "Waiting until Nova may place servers", (f"{key}-compute", "nova"), "cloud", 0),
        stage("bandwidth", "Offering bandwidth to ports", (f"{key}-ready",), "cloud", 0),
    )


def configure(machine: Machine, key: str) -> None:
    """Write a host's own configuration and scripts, and make its directories."""
    settings, host = settings_of(machine), _host(machine, key)
    inside, state = extra_hosts.settings_on(settings, host), hosts.state_directory(key)
    machine.manifest.made("host", key)
    machine.directory(hosts.STATE)
    for user, directories in (("nova", ("", "/instances", "/lock")), ("neutron", ("", "/lock"))):
        home = {"nova": NOVA_STATE, "neutron": NEUTRON_STATE}[user]
        machine.directory(f"{state}/etc/{user}", group=user, mode=0o750)
        for name in directories:
            machine.directory(f"{state}{home}{name}", owner=user)
    machine.directory(f"{state}{DRIVER_STATE}", owner="nova", mode=0o700)
    machine.directory(f"{state}{PATCH_DIRECTORY}", owner="nova")
    machine.directory(f"{state}{ROOTWRAP_FILTERS}")
    write_configuration(machine, "nova", {f"{state}/etc/nova/nova.conf": nova_conf(inside)})
    agent_files = {"neutron.conf": neutron_conf(inside), "ovn_agent.ini": ovn_agent_conf(inside)}
    write_configuration(machine, "neutron", {f"{state}/etc/neutron/{name}": ini for name, ini in agent_files.items()})
    machine.file(f"{state}{ROOTWRAP_CONF}", render_ini(rootwrap_conf()))
    machine.file(f"{state}{ROOTWRAP_FILTERS}/dockstack.filters", render_ini(rootwrap_filters()))
    machine.directory(extra_hosts.script_directory(key))
    volume = storage.wanted(machine.attributes, key)
    data_root = engine_of(machine.attributes).data_root
    mount_point = volume.mount_point if volume else ""
    for path, content in extra_hosts.all_scripts(settings, host, data_root, mount_point).items():
        machine.file(path, content, mode=0o755)
    machine.file(extra_hosts.uplink_file(key), extra_hosts.uplink_cfg(settings, key))


def start_switch(machine: Machine, key: str) -> None:
    """Have a host's switch running and joined to the machine's, and the forwarder to the controller."""
    settings = settings_of(machine)
    if settings.datapath == "netdev":
        machine.packages(*machine.distribution.packages_of("ethtool"))
    machine.manifest.made("bridge", hosts.BRIDGE)
    machine.manifest.made("masquerade", hosts.BRIDGE)
    ensure_running(machine, extra_hosts.uplink(settings, key))
    for service in extra_hosts.network_services(settings, machine.distribution, key):
        ensure_running(machine, service)


def start_engine(machine: Machine, key: str) -> None:
    """Have a host's engine running, if its hypervisor has one, and what goes with it on the machine itself."""
    for service in engine_services(machine, key):
        ensure_running(machine, service)


def start_compute(machine: Machine, key: str) -> None:
    """Have a host's nova-compute running."""
    ensure_running(machine, compute_service(machine, key))


def start_agent(machine: Machine, key: str) -> None:
    """Have a host's metadata agent running."""
    for service in extra_hosts.agent_services(settings_of(machine), key):
        ensure_running(machine, service)


def await_report(machine: Machine, key: str) -> None:
    """Wait until a host's nova-compute has reported since its start."""
    await_service(machine, compute_service(machine, key), _host(machine, key).name)


def offer_bandwidth(machine: Machine, key: str) -> None:
    """Let Neutron guarantee ports bandwidth on a host."""
    inside = extra_hosts.settings_on(settings_of(machine), _host(machine, key))
    fabric.offer_bandwidth(machine, inside, names.enter_host(key))


def engine_services(machine: Machine, key: str) -> tuple[Service, ...]:
    """Return the engine of a host and its LXCFS, if the machine has one; none where servers are no containers."""
    plugin = chosen(machine.node)
    if not isinstance(plugin, Docker):
        return ()
    ordinary = [plugin.service(machine)]
    if any(service.name == lxcfs.NAME for service in machine.records.services()):
        ordinary.append(lxcfs.service(machine.distribution))
    return tuple(extra_hosts.entered(service, key, ()) for service in ordinary)


def compute_service(machine: Machine, key: str) -> Service:
    """Return a host's nova-compute with what the hypervisor adds to it."""
    plugin = chosen(machine.node)
    groups, watch = ((), ()) if plugin is None else (plugin.contribution().groups, plugin.contribution().watch)
    engine = plugin.name if isinstance(plugin, Docker) else None
    (service,) = extra_hosts.compute_services(settings_of(machine), key, groups, watch, engine)
    return mounts.after_holder(machine, cinder.after_pool(machine, service, key), key)


def remove_unwanted(machine: Machine) -> None:
    """Remove the hosts that the attributes do not ask for any more; one with servers is refused.

    Raises:
        StepFailedError: Nova has servers there; nothing was removed.
    """
    settings = settings_of(machine)
    known = hosts.keys_of(service.name for service in machine.records.services() if service.inside)
    unwanted = [key for key in known if hosts.number_of(key) > machine.attributes.number("hosts")]
    if not unwanted:
        return
    names = [hosts.host_name(settings.hostname, key) for key in unwanted]
    ask(machine, "refuse-inhabited", desired_state.forget_hosts(settings, names))
    for key, name in zip(unwanted, names, strict=True):
        machine.say(f"Removing {name}")
        host_removal.remove_host(machine, key)
        machine.run(["ovn-sbctl", "--timeout=10", "--if-exists", "chassis-del", name])
    provision(machine, "forget-hosts", desired_state.forget_hosts(settings, names))
    if machine.attributes.number("hosts") < hosts.FIRST:
        host_removal.remove_network(machine)


def _host(machine: Machine, key: str) -> ExtraHost:
    found = hosts.extra_hosts(machine.attributes, settings_of(machine).hostname)
    return next(host for host in found if host.key == key)


_WORK = {
    "files": configure,
    "switch": start_switch,
    "engine": start_engine,
    "compute": start_compute,
    "agent": start_agent,
    "ready": await_report,
    "bandwidth": offer_bandwidth,
}
