# SPDX-License-Identifier: Apache-2.0
"""A further host on the same machine: its settings, its scripts, and the ordinary services entered there."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack import names
from dockstack.deploy.configuration import programs, scripts
from dockstack.deploy.paths import ETC
from dockstack.deploy.supervision.services import Check, CheckKind, Service
from dockstack.deploy.wanted import hosts

if TYPE_CHECKING:
    from collections.abc import Collection

    from dockstack.deploy.configuration.settings import Settings
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


def network_services(key: str) -> tuple[Service, ...]:
    """Return the switch of a host and OVN on it."""
    found = [
        entered(service, key, OWN_SERVICES) for service in programs.network_fabric() if service.name in OWN_SERVICES
    ]
    return tuple(_joined(service, key) if service.name.endswith("ovn-controller") else service for service in found)


def _joined(controller: Service, key: str) -> Service:
    """Lay the cables to the machine's switch between the host's own switch and OVN."""
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
    """Return where the machine keeps a host's own edition of a file."""
    if path.startswith(f"{scripts.DIRECTORY}/"):
        return f"{script_directory(key)}{path.removeprefix(scripts.DIRECTORY)}"
    return hosts.outside(key, path) if path.startswith("/etc/") else path


def uplink(settings: Settings, key: str) -> Service:
    """Return what answers in a host's namespace for the controller, which listens on this machine only."""
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
        packages=("haproxy",),
    )


def uplink_file(key: str) -> str:
    """Return where the forwarder's configuration stands."""
    return f"{ETC}/{key}-uplink.cfg"


def uplink_cfg(settings: Settings, key: str) -> str:
    """Return the forwarder's configuration: plain TCP, from the host's loopback to the controller and nowhere else."""
    ports = settings.ports
    listeners = {
        "keystone": ports.keystone,
        "placement": ports.placement,
        "glance": ports.glance,
        "nova": ports.nova,
        "nova-metadata": ports.nova_metadata,
        "neutron": ports.neutron,
        "rabbitmq": ports.rabbitmq,
    }
    lines = [
        "# Written by dockstack.",
        "global",
        "    maxconn 2000",
        "    user haproxy",
        "    group haproxy",
        "defaults",
        "    mode tcp",
        "    timeout connect 5s",
        "    timeout client 1d",
        "    timeout server 1d",
    ]
    for name, port in listeners.items():
        lines += [
            f"listen {name}",
            f"    bind {settings.controller_address}:{port} namespace {names.host_namespace(key)}",
            f"    server controller {settings.controller_address}:{port}",
        ]
    return "\n".join(lines) + "\n"


def script_directory(key: str) -> str:
    """Return where a host's own editions of the scripts stand."""
    return f"{scripts.DIRECTORY}/{key}"


def all_scripts(settings: Settings, host: ExtraHost, data_root: str, mounts: str = "") -> dict[str, str]:
    """Return a host's scripts by their paths; ``mounts``: a line that mounts what its engine stores on."""
    inside = settings_on(settings, host)
    ordinary = {**scripts.all_scripts(inside), scripts.EXTERNAL_BRIDGE: bridges(settings, host)}
    return {
        f"{script_directory(host.key)}/prepare-host": prepare_host(settings, host, data_root, mounts),
        f"{script_directory(host.key)}/prepare-cables": prepare_cables(settings, host),
        **{_file(host.key, path): text for path, text in ordinary.items()},
    }


def prepare_host(settings: Settings, host: ExtraHost, data_root: str, mounts: str = "") -> str:
    """Return the script that makes a host's namespaces, bound to files so that they outlive all its processes."""
    run, state, key = hosts.run_directory(host.key), hosts.state_directory(host.key), host.key
    own = " ".join(dict.fromkeys((*hosts.OWN, data_root)))
    storage = f"    {mounts}\n" if mounts else ""
    return f"""{scripts.HEAD}# Make the namespaces of {key}; run again, it changes nothing.
set -eu
network={names.host_namespace(key)}
mounts={hosts.mount_namespace(key)}
run={run}
state={state}

if [ "${{1:-}}" = inside ]; then
    # The links that /sys shows are those of the namespace in which it was mounted.
    for part in {" ".join(SHARED_SYS)}; do
        mountpoint -q "/sys/$part" || continue
        mkdir -p "$run/sys/$part"
        mount --rbind "/sys/$part" "$run/sys/$part"
    done
    mount -t sysfs sysfs /sys
    for part in {" ".join(SHARED_SYS)}; do
        mountpoint -q "$run/sys/$part" || continue
        mount --rbind "$run/sys/$part" "/sys/$part"
        umount -l "$run/sys/$part"
    done
    for part in {" ".join(SHARED_RUN)}; do
        [ -d "/run/$part" ] || continue
        mkdir -p "$run/$part"
        mount --rbind "/run/$part" "$run/$part"
    done
    mkdir -p "$run/{CENTRAL}" "$run/ovn"
    mount --bind /run/ovn "$run/{CENTRAL}"
    ln -sfn /run/{CENTRAL}/ovnnb_db.sock /run/{CENTRAL}/ovnsb_db.sock "$run/ovn/"
    for own in {own}; do
        mkdir -p "$state$own" "$own"
        mount --bind "$state$own" "$own"
    done
    mount --rbind "$run" /run
    : > {SET_UP}
    exit
fi

install -d -m 755 {hosts.DIRECTORY} "$state" /run/netns
exec 9> "{hosts.DIRECTORY}/{key}.lock"
flock 9
if ! nsenter --net="/run/netns/$network" true 2>/dev/null; then
    ip netns delete "$network" 2>/dev/null || rm -f "/run/netns/$network"
    ip netns add "$network"
fi
ip -netns "$network" link set lo up
{_controller_line(settings)}if ! nsenter --mount="$mounts" test -e {SET_UP} 2>/dev/null; then
    mountpoint -q {hosts.DIRECTORY} || mount --bind {hosts.DIRECTORY} {hosts.DIRECTORY}
    mount --make-private {hosts.DIRECTORY}
    umount "$mounts" 2>/dev/null || true
    rm -rf "$run"
    install -d -m 755 "$run" "$run/netns" "$run/openvswitch" /run/ovn /run/dockstack/memcached
    install -d -m 1777 "$run/lock"
    : > "$mounts"
{storage}    unshare --mount="$mounts" --propagation slave nsenter --net="/run/netns/$network" "$0" inside
fi
"""


def _controller_line(settings: Settings) -> str:
    """Return what has the controller's address answer in the host, where something forwards it; a loopback's does."""
    address = settings.controller_address
    if ipaddress.ip_address(address).is_loopback:
        return ""
    return f'ip -netns "$network" address replace {address}/32 dev lo\n'


def prepare_cables(settings: Settings, host: ExtraHost) -> str:
    """Return the script that joins a host's switch to the machine's: a cable for tunnels and one for the outside."""
    networks = settings.networks
    network = names.host_namespace(host.key)
    (tunnel, tunnel_end, _), (external, external_end, _) = hosts.cables(host.key)
    lines = [
        f"{scripts.HEAD}# Join the switch of {host.key} to the machine's; run again, it changes nothing.",
        "set -eu",
        f"network={network}",
        "quiet() {",
        "    # The switch reads these devices beside the kernel, which must not answer on them, too.",
        '    sysctl -qw "net.ipv4.conf.$1.arp_ignore=8"',
        '    test ! -e /proc/sys/net/ipv6 || sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"',
        "}",
        'if [ "${1:-}" = quiet ]; then quiet "$2"; exit; fi',
        "cable() {",
        '    ip link show "$1" >/dev/null 2>&1 || ip link add "$1" type veth peer name "$2" netns "$network"',
        '    quiet "$1"',
        '    nsenter --net="/run/netns/$network" "$0" quiet "$2"',
        '    ip link set "$1" up',
        '    ip -netns "$network" link set "$2" up',
        "}",
        f"cable {tunnel} {tunnel_end}",
        f"cable {external} {external_end}",
        "change=$(cat /proc/sys/kernel/random/uuid)",
        f"ovs-vsctl --timeout=60 --may-exist add-br {hosts.BRIDGE} \\",
        f"    -- set Bridge {hosts.BRIDGE} datapath_type={settings.datapath} \\",
        '    external-ids:dockstack-prepared="$change" \\',
        f"    -- --may-exist add-port {hosts.BRIDGE} {tunnel} \\",
        f"    -- --may-exist add-port {networks.external_bridge} {external}",
        f"ip address replace {host.gateway} dev {hosts.BRIDGE}",
        f"ip link set {hosts.BRIDGE} up",
    ]
    if settings.datapath == "netdev":
        # What this machine sends into the external network may be for a server behind a tunnel.
        lines.append(f"ethtool -K {networks.external_bridge} tx off > /dev/null")
    for rule in (f"-i {hosts.BRIDGE} -j DROP", f"-o {hosts.BRIDGE} -j DROP"):
        marked = f"FORWARD {rule} -m comment --comment dockstack"
        lines.append(f"iptables -w -C {marked} 2>/dev/null || iptables -w -I {marked}")
    return "\n".join(lines) + "\n"


def bridges(settings: Settings, host: ExtraHost) -> str:
    """Return the script that makes a host's bridges, run in the host."""
    bridge = settings.networks.external_bridge
    (_, tunnel, _), (_, external, _) = hosts.cables(host.key)
    kind = f"datapath_type={settings.datapath}"
    return "\n".join(
        (
            f"{scripts.HEAD}# Bring up the bridges of {host.key}; run again, it changes nothing.",
            "set -eu",
            "change=$(cat /proc/sys/kernel/random/uuid)",
            f"ovs-vsctl --timeout=60 --may-exist add-br {hosts.BRIDGE} \\",
            f'    -- set Bridge {hosts.BRIDGE} {kind} external-ids:dockstack-prepared="$change" \\',
            f"    -- --may-exist add-port {hosts.BRIDGE} {tunnel} \\",
            f"    -- --may-exist add-br {bridge} -- set Bridge {bridge} {kind} \\",
            f"    -- --may-exist add-port {bridge} {external}",
            f"ip address replace {host.address} dev {hosts.BRIDGE}",
            f"ip link set {hosts.BRIDGE} up",
            f"ip link set {bridge} up",
            "",
        )
    )
