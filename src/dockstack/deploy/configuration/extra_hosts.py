# SPDX-License-Identifier: Apache-2.0
"""A further host on the same machine: its settings, its scripts, and the ordinary services run in its namespaces."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack import names
from dockstack.deploy.configuration import fork_server, haproxy, programs, scripts
from dockstack.deploy.paths import ETC
from dockstack.deploy.supervision.services import Check, CheckKind, Service
from dockstack.deploy.wanted import hosts

if TYPE_CHECKING:
    from collections.abc import Collection

    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.wanted.hosts import ExtraHost

# Of the machine's /run, what services of a host need: the controller's databases and cache, and the system's bus.
SHARED_RUN = ("dockstack/memcached", "dbus", "systemd", "udev")
# What stands below /sys besides the links, which must be the host's own.
SHARED_SYS = ("fs/bpf", "fs/cgroup", "kernel/debug", "kernel/security", "kernel/tracing")
CENTRAL = "ovn-central"
OWN_SERVICES = frozenset({"ovsdb", "ovs-vswitchd", "ovn-controller", "neutron-ovn-agent", "nova-compute"})
SET_UP = "/run/.dockstack-host"


def settings_on(settings: Settings, host: ExtraHost) -> Settings:
    """Return the cloud's settings as a further host sees them; gateways stay on the machine itself."""
    return replace(settings, hostname=host.name, tunnel_address=host.tunnel_address, gateway_chassis=False)


def entered(service: Service, key: str, own: Collection[str]) -> Service:
    """Return an ordinary service as a process of a further host.

    Args:
        service: as it runs on the machine itself.
        key: the host's.
        own: names of services that the host has itself; others that it requires are the machine's.
    """
    directory, _, file = service.log_path.rpartition("/")
    prepare: list[tuple[str, ...]] = [(f"{script_directory(key)}/prepare-host",)]
    prepare += [(*names.enter_host(key), _file(key, command[0]), *command[1:]) for command in service.prepare]
    return replace(
        service,
        name=hosts.service_name(key, service.name),
        title=f"{service.title}, on {key}",
        inside=key,
        log=f"{directory}/{key}-{file}",
        requires=tuple(hosts.service_name(key, name) if name in own else name for name in service.requires),
        check=_entered_check(service.check, key),
        watch=(f"{script_directory(key)}/prepare-host", *(_file(key, path) for path in service.watch)),
        prepare=tuple(prepare),
        unit=None,
        replaces=(),
    )


def network_services(settings: Settings, distribution: Distribution, key: str) -> tuple[Service, ...]:
    """Return the switch of a host and OVN on it."""
    found = [
        entered(service, key, OWN_SERVICES)
        for service in programs.network_fabric(settings, distribution)
        if service.name in OWN_SERVICES
    ]
    return tuple(_joined(service, key) if service.name.endswith("ovn-controller") else service for service in found)


def _joined(controller: Service, key: str) -> Service:
    """Have the cables to the machine's switch laid before OVN starts on the host, and after its switch."""
    cables = f"{script_directory(key)}/prepare-cables"
    first, *others = controller.prepare
    return replace(
        controller,
        prepare=(first, (cables,), *others),
        requires=(*controller.requires, "ovs-vswitchd"),
        watch=(*controller.watch, cables),
    )


def compute_services(
    settings: Settings, key: str, groups: tuple[str, ...], watch: tuple[str, ...], engine: str | None
) -> tuple[Service, ...]:
    """Return nova-compute on a host; ``engine``: the service of its engine, if it has one."""
    needs = (hosts.service_name(key, "uplink"), *((hosts.service_name(key, engine),) if engine else ()))
    found = (entered(service, key, OWN_SERVICES) for service in programs.nova_compute(settings, groups, watch))
    return tuple(replace(service, requires=(*service.requires, *needs)) for service in found)


def agent_services(settings: Settings, key: str) -> tuple[Service, ...]:
    """Return what serves metadata to the servers of a host."""
    found = (
        entered(service, key, OWN_SERVICES) for service in programs.neutron(settings) if service.name in OWN_SERVICES
    )
    uplink_name = hosts.service_name(key, "uplink")
    return tuple(replace(service, requires=(*service.requires, uplink_name)) for service in found)


def _entered_check(check: Check | None, key: str) -> Check | None:
    if check is None:
        return None
    if check.kind is CheckKind.COMMAND:
        return replace(check, command=(*names.enter_host(key), *check.command))
    return replace(check, target=hosts.outside(key, check.target))


def _file(key: str, path: str) -> str:
    """Return the path, on the machine, of a host's own copy of a file; those of a shim are the machine's."""
    if path in fork_server.SCRIPTS:
        return path
    if path.startswith(f"{scripts.DIRECTORY}/"):
        return f"{script_directory(key)}{path.removeprefix(scripts.DIRECTORY)}"
    return hosts.outside(key, path) if path.startswith("/etc/") else path


def uplink(settings: Settings, key: str) -> Service:
    """Return the forwarder in a host's namespace to the controller, which listens on the machine's loopback only."""
    path = uplink_file(key)
    question = f"exec 3<>/dev/tcp/{settings.controller_address}/{settings.ports.rabbitmq}"
    net_only = (names.NSENTER, f"--net=/run/netns/{names.host_namespace(key)}", "--")
    return Service(
        name=hosts.service_name(key, "uplink"),
        title=f"The controller's addresses, on {key}",
        command=("/usr/sbin/haproxy", "-db", "-f", path),
        log=f"/var/log/dockstack/{key}-uplink.log",
        requires=("rabbitmq",),
        prepare=((f"{script_directory(key)}/prepare-host",),),
        check=Check(CheckKind.COMMAND, command=(*net_only, "timeout", "5", "bash", "-c", question)),
        watch=(path, f"{script_directory(key)}/prepare-host"),
        packages=settings.distribution.packages_of("haproxy"),
    )


def uplink_file(key: str) -> str:
    """Return the path of the forwarder's configuration."""
    return f"{ETC}/{key}-uplink.cfg"


def uplink_cfg(settings: Settings, key: str) -> str:
    """Return the forwarder's configuration: plain TCP, from the host's loopback to the controller and nowhere else."""
    listeners = {**haproxy.api_ports(settings), "rabbitmq": settings.ports.rabbitmq}
    lines = [*haproxy.BEGINNING, "defaults", *haproxy.STREAMS]
    for name, port in listeners.items():
        lines += [
            f"listen {name}",
            f"    bind {settings.controller_address}:{port} namespace {names.host_namespace(key)}",
            f"    server controller {settings.controller_address}:{port}",
        ]
    return "\n".join(lines) + "\n"


def script_directory(key: str) -> str:
    """Return the directory of a host's own scripts."""
    return f"{scripts.DIRECTORY}/{key}"


def all_scripts(settings: Settings, host: ExtraHost, data_root: str, storage: str = "") -> dict[str, str]:
    """Return a host's scripts by their paths; ``storage``: the mount point of a volume of its engine's own, if any."""
    inside = settings_on(settings, host)
    ordinary = {**scripts.all_scripts(inside), scripts.EXTERNAL_BRIDGE: bridges(settings, host)}
    return {
        f"{script_directory(host.key)}/prepare-host": prepare_host(settings, host, data_root, storage),
        f"{script_directory(host.key)}/prepare-cables": prepare_cables(settings, host),
        **{_file(host.key, path): text for path, text in ordinary.items()},
    }


def prepare_host(settings: Settings, host: ExtraHost, data_root: str, storage: str = "") -> str:
    """Return the script that makes a host's namespaces, bound to files so that they outlive all its processes."""
    controller = settings.controller_address
    return scripts.render(
        "prepare-host",
        key=host.key,
        hosts=hosts.DIRECTORY,
        network=names.host_namespace(host.key),
        mounts=hosts.mount_namespace(host.key),
        run=hosts.run_directory(host.key),
        state=hosts.state_directory(host.key),
        own=tuple(dict.fromkeys((*hosts.OWN, data_root))),
        shared_run=SHARED_RUN,
        shared_sys=SHARED_SYS,
        central=CENTRAL,
        marker=SET_UP,
        controller="" if ipaddress.ip_address(controller).is_loopback else controller,
        storage=storage,
    )


def prepare_cables(settings: Settings, host: ExtraHost) -> str:
    """Return the script that joins a host's switch to the machine's: a cable for tunnels and one for the outside."""
    (tunnel, tunnel_end, _), (external, external_end, _) = hosts.cables(host.key)
    return scripts.render(
        "prepare-cables",
        network=names.host_namespace(host.key),
        tunnel=tunnel,
        tunnel_end=tunnel_end,
        external=external,
        external_end=external_end,
        bridge=hosts.BRIDGE,
        external_bridge=settings.networks.external_bridge,
        datapath=settings.datapath,
        gateway=host.gateway,
    )


def bridges(settings: Settings, host: ExtraHost) -> str:
    """Return the script that makes a host's bridges, run in the host."""
    (_, tunnel, _), (_, external, _) = hosts.cables(host.key)
    return scripts.render(
        "prepare-host-bridges",
        bridge=hosts.BRIDGE,
        tunnel=tunnel,
        external_bridge=settings.networks.external_bridge,
        external=external,
        datapath=settings.datapath,
        address=host.address,
    )
