# SPDX-License-Identifier: Apache-2.0
"""Small shell scripts that run before a service starts, also after a reboot."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from dockstack.deploy.configuration.openvswitch import chassis_options, open_vswitch_settings

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings

DIRECTORY = "/opt/dockstack/libexec"
OPEN_VSWITCH_DATABASE = f"{DIRECTORY}/prepare-ovsdb"
OPEN_VSWITCH_SETTINGS = f"{DIRECTORY}/prepare-ovs-vswitchd"
OVN_DATABASE = f"{DIRECTORY}/prepare-ovn-database"
EXTERNAL_BRIDGE = f"{DIRECTORY}/prepare-external-bridge"

HEAD = "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n"


def python_script(name: str) -> str:
    """Return where a Python script of ours stands on a node."""
    return f"{DIRECTORY}/{name}.py"


def all_scripts(settings: Settings) -> dict[str, str]:
    """Return every script by its path."""
    return {
        OPEN_VSWITCH_DATABASE: open_vswitch_database(),
        OPEN_VSWITCH_SETTINGS: open_vswitch_configuration(settings),
        OVN_DATABASE: ovn_database(),
        EXTERNAL_BRIDGE: external_bridge(settings),
    }


def open_vswitch_database() -> str:
    """Return the script that makes or converts Open vSwitch's configuration database."""
    return (
        f"{HEAD}# Make the configuration database, or bring it to the installed version's schema.\n"
        "set -eu\n"
        "schema=/usr/share/openvswitch/vswitch.ovsschema\n"
        "database=/etc/openvswitch/conf.db\n"
        "install -d -m 755 /run/openvswitch /etc/openvswitch /var/log/openvswitch\n"
        'if [ ! -s "$database" ]; then\n'
        '    rm -f "$database"\n'
        '    ovsdb-tool create "$database.new" "$schema" && mv "$database.new" "$database"\n'
        'elif [ "$(ovsdb-tool needs-conversion "$database" "$schema")" = yes ]; then\n'
        '    ovsdb-tool convert "$database" "$schema"\n'
        "fi\n"
    )


def ovn_database() -> str:
    """Return the script that makes or converts one of OVN's two databases: nb or sb."""
    return (
        f"{HEAD}# Make OVN's database $1 (nb or sb), or bring it to the installed version's schema.\n"
        "set -eu\n"
        'schema="/usr/share/ovn/ovn-$1.ovsschema"\n'
        'database="/var/lib/ovn/ovn$1_db.db"\n'
        "install -d -m 755 /run/ovn /var/lib/ovn /var/log/ovn\n"
        'if [ ! -s "$database" ]; then\n'
        '    rm -f "$database" "$database.new"\n'
        '    ovsdb-tool create "$database.new" "$schema" && mv "$database.new" "$database"\n'
        'elif [ "$(ovsdb-tool needs-conversion "$database" "$schema")" = yes ]; then\n'
        '    ovsdb-tool convert "$database" "$schema"\n'
        "fi\n"
    )


def open_vswitch_configuration(settings: Settings) -> str:
    """Return the script that sets what must be set before ovs-vswitchd starts."""
    values = " \\\n    ".join(open_vswitch_settings(settings))
    options = chassis_options(settings, bandwidth=False)
    # What ports may be guaranteed is added when Placement knows the host, and kept from then on.
    offer = (
        'if [ -z "$(ovs-vsctl --no-wait --if-exists get Open_vSwitch . external-ids:ovn-cms-options)" ]; then\n'
        f"    ovs-vsctl --timeout=60 --no-wait set Open_vSwitch . external-ids:ovn-cms-options={options}\n"
        "fi\n"
    )
    load = "modprobe openvswitch\n" if settings.datapath == "system" else ""
    return (
        f"{HEAD}# Tell Open vSwitch about this chassis.\n"
        "set -eu\n"
        f"{load}"
        "version=$(ovs-vswitchd --version | sed -n '1s/.* //p')\n"
        'ovs-vsctl --timeout=60 --no-wait -- init -- set Open_vSwitch . ovs-version="$version" \\\n'
        f"    {values}\n"
        f"{offer if options else ''}"
    )


def external_bridge(settings: Settings) -> str:
    """Return the script that makes the external bridge reachable from this machine, and NAT behind it if wanted."""
    networks = settings.networks
    bridge = networks.external_bridge
    prefix = ipaddress.ip_network(networks.external_cidr).prefixlen
    lines = [
        f"{HEAD}# Bring up the external bridge; run again, it changes nothing.",
        "set -eu",
        "# After a boot the database has the bridge and the kernel does not yet: only a change is waited for.",
        "change=$(cat /proc/sys/kernel/random/uuid)",
        f"ovs-vsctl --timeout=60 --may-exist add-br {bridge} \\",
        f'    -- set Bridge {bridge} datapath_type={settings.datapath} external-ids:dockstack-prepared="$change"',
        f"ip address replace {networks.external_gateway}/{prefix} dev {bridge}",
        f"ip link set {bridge} up",
    ]
    if networks.masquerade:
        lines += _masquerade(networks.external_cidr, bridge)
    return "\n".join(lines) + "\n"


# The engine's own bridge, and those of its users' networks.
_ENGINE_BRIDGES = ("docker+", "br-+")


def _masquerade(cidr: str, bridge: str) -> list[str]:
    """Rules carry a comment, so that `clean` finds them; they stand first, for an engine's FORWARD policy is DROP.

    Each is inserted above the one before. Servers reach of the machine's own containers what those have published, and
    no more, as if they were anywhere else on the network.
    """
    unpublished = "-m conntrack ! --ctstate DNAT,ESTABLISHED,RELATED -j DROP"
    rules = (
        ("nat", "POSTROUTING", f"-s {cidr} ! -d {cidr} -j MASQUERADE"),
        ("filter", "FORWARD", f"-i {bridge} -j ACCEPT"),
        *(("filter", "FORWARD", f"-i {bridge} -o {name} {unpublished}") for name in _ENGINE_BRIDGES),
        ("filter", "FORWARD", f"-o {bridge} -j ACCEPT"),
    )
    lines = ["sysctl -q -w net.ipv4.ip_forward=1"]
    for table, chain, rule in rules:
        marked = f"{rule} -m comment --comment dockstack"
        lines.append(
            f"iptables -w -t {table} -C {chain} {marked} 2>/dev/null || iptables -w -t {table} -I {chain} {marked}"
        )
    return lines
