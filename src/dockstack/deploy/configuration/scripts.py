# SPDX-License-Identifier: Apache-2.0
"""Small shell scripts that run before a service starts, also after a reboot.

They stand in ``shell/`` as whole files, so that shellcheck reads them as they run; only the block of parameters at the
top is filled in here, each value quoted.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from importlib import resources
from typing import TYPE_CHECKING

from dockstack.deploy.configuration.openvswitch import chassis_options, open_vswitch_settings

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings

DIRECTORY = "/opt/dockstack/libexec"
OPEN_VSWITCH_DATABASE = f"{DIRECTORY}/prepare-ovsdb"
OPEN_VSWITCH_SETTINGS = f"{DIRECTORY}/prepare-ovs-vswitchd"
OVN_DATABASE = f"{DIRECTORY}/prepare-ovn-database"
EXTERNAL_BRIDGE = f"{DIRECTORY}/prepare-external-bridge"

# The engine's own bridge, and those of its users' networks.
ENGINE_BRIDGES = ("docker+", "br-+")

_PARAMETERS = re.compile(r"^# Parameters: .*\n((?:\w+=''\n)*)# End of parameters\.\n", re.MULTILINE)


def python_script(name: str) -> str:
    """Return the path of a Python script of ours on a node."""
    return f"{DIRECTORY}/{name}.py"


def all_scripts(settings: Settings) -> dict[str, str]:
    """Return every script by its path."""
    return {
        OPEN_VSWITCH_DATABASE: open_vswitch_database(),
        OPEN_VSWITCH_SETTINGS: open_vswitch_configuration(settings),
        OVN_DATABASE: ovn_database(),
        EXTERNAL_BRIDGE: external_bridge(settings),
    }


def render(name: str, **values: str | tuple[str, ...]) -> str:
    """Return a script of ``shell/`` with its parameters set; a tuple becomes words that the script may loop over.

    Raises:
        ValueError: the script has other parameters, or a word has a space.
    """
    text = (resources.files("dockstack.deploy.configuration") / "shell" / f"{name}.sh").read_text()
    block = _PARAMETERS.search(text)
    expected = [line.partition("=")[0] for line in block[1].splitlines()] if block else []
    if set(expected) != set(values):
        raise ValueError(f"{name}.sh has the parameters {expected}, not {list(values)}")
    if block is None:
        return text
    lines = "".join(f"{parameter}={shlex.quote(_text(values[parameter]))}\n" for parameter in expected)
    return f"{text[: block.start(1)]}{lines}{text[block.end(1) :]}"


def _text(value: str | tuple[str, ...]) -> str:
    if isinstance(value, str):
        return value
    if any(len(word.split()) != 1 for word in value):
        raise ValueError(f"a word of {value} is empty or has a space")
    return " ".join(value)


def open_vswitch_database() -> str:
    """Return the script that makes or converts Open vSwitch's configuration database."""
    return render("prepare-ovsdb")


def ovn_database() -> str:
    """Return the script that makes or converts one of OVN's two databases: nb or sb."""
    return render("prepare-ovn-database")


def open_vswitch_configuration(settings: Settings, bridges: tuple[str, ...] = ()) -> str:
    """Return the script that sets what must be set before ovs-vswitchd starts.

    Args:
        settings: of the host.
        bridges: that must be there for others' network cards.
    """
    return render(
        "prepare-ovs-vswitchd",
        datapath=settings.datapath,
        settings=open_vswitch_settings(settings),
        chassis_options=chassis_options(settings, bandwidth=False),
        bridges=bridges,
    )


def external_bridge(settings: Settings) -> str:
    """Return the script that makes the external bridge reachable from this machine, and NAT behind it if wanted."""
    networks = settings.networks
    prefix = ipaddress.ip_network(networks.external_cidr).prefixlen
    return render(
        "prepare-external-bridge",
        bridge=networks.external_bridge,
        datapath=settings.datapath,
        gateway=f"{networks.external_gateway}/{prefix}",
        cidr=networks.external_cidr,
        masquerade="yes" if networks.masquerade else "no",
        engine_bridges=ENGINE_BRIDGES,
    )
