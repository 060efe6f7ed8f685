# SPDX-License-Identifier: Apache-2.0
"""Hosts of an Ansible inventory, as nodes: from what ``ansible-inventory --list`` prints, which knows all its forms."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAM = "ansible-inventory"
LIMIT = 120  # seconds that it may take
CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh")
PLAIN = {"ansible_host": "address", "ansible_user": "user", "ansible_ssh_private_key_file": "key"}
# Options of ssh that need no obedience: we are stricter, or look for both anyway.
HARMLESS = {"stricthostkeychecking", "controlmaster", "controlpersist", "controlpath", "serveraliveinterval"}


def read(path: str, group: str) -> dict[str, dict[str, Any]]:
    """Return the hosts of a group, as an environment file would describe them.

    Args:
        path: the inventory, or a file with what ``ansible-inventory --list`` prints of it.
        group: whose hosts, and whose children's.

    Raises:
        DockstackError: it cannot be read, there is no such group, or a host is reached in a way that we have not.
    """
    return nodes(listing(path), group)


def listing(path: str) -> Any:
    """Return all of an inventory, in the form of ``ansible-inventory --list``.

    Raises:
        DockstackError: it cannot be read.
    """
    try:
        return json.loads(Path(path).read_text())
    except IsADirectoryError:
        pass  # an inventory may be one
    except OSError as error:
        raise DockstackError(
            f"{path} cannot be read: {error.strerror}.", "Check the path after --inventory."
        ) from error
    except ValueError:
        pass  # no JSON: INI, YAML, or a program
    return _listed(path)


def _listed(path: str) -> Any:
    program = shutil.which(PROGRAM)
    if program is None:
        raise DockstackError(
            f"{path} is no JSON, and {PROGRAM}, which reads all other inventories, is not here.",
            f"Where Ansible is: {PROGRAM} -i {path} --list > inventory.json, and then --inventory inventory.json",
        )
    line = [program, "-i", path, "--list"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        raise DockstackError(f"{PROGRAM} does not end within {LIMIT} s.", "Try it yourself.") from error
    if done.returncode:
        raise DockstackError(f"{PROGRAM} cannot read {path}.", "Correct what it says above.", done.stderr)
    return json.loads(done.stdout)


def nodes(listed: Any, group: str) -> dict[str, dict[str, Any]]:
    """Return the hosts of a group from the listing; pure."""
    if not isinstance(listed, dict) or group not in listed:
        groups = ", ".join(sorted(name for name in listed if name != "_meta")) if isinstance(listed, dict) else "none"
        raise DockstackError(f"The inventory has no group {group!r}.", f"--group takes one of these: {groups}.")
    return {host: _node(host, variables_of(listed, host)) for host in members(listed, group)}


def members(listed: Mapping[str, Any], group: str) -> tuple[str, ...]:
    """Return the hosts of a group, and of its children; none where there is no such group; pure."""
    return tuple(dict.fromkeys(_hosts(listed, group, ())))


def variables_of(listed: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    """Return a host's variables; one without any is not listed; pure."""
    found: Mapping[str, Any] = listed.get("_meta", {}).get("hostvars", {}).get(host, {})
    return found


def _hosts(listed: Mapping[str, Any], group: str, above: tuple[str, ...]) -> Iterator[str]:
    yield from listed.get(group, {}).get("hosts", ())
    for child in listed.get(group, {}).get("children", ()):
        if child not in above:
            yield from _hosts(listed, child, (*above, group))


def _node(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    connection = variables.get("ansible_connection", "ssh")
    if connection not in CONNECTIONS:
        raise DockstackError(f"{host} is reached by {connection} in the inventory.", "Nodes are reached over SSH only.")
    raw: dict[str, Any] = {"connector": "@ssh", "roles": [Role.COMPUTE.value]}
    for variable, key in PLAIN.items():
        if variable in variables:
            raw[key] = _text(host, variable, variables[variable])
    if "ansible_port" in variables:
        raw["port"] = int(_text(host, "ansible_port", variables["ansible_port"]))
    for variable in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        if variables.get(variable):
            raw |= _arguments(host, variable, _text(host, variable, variables[variable]))
    return raw


def _text(host: str, variable: str, value: Any) -> str:
    if not isinstance(value, str | int) or (isinstance(value, str) and "{{" in value):
        raise DockstackError(
            f"{variable} of {host} is encrypted, or made of other variables.",
            "Name the host on the command line instead, or write its value into an environment file.",
        )
    return str(value)


def _arguments(host: str, variable: str, text: str) -> dict[str, str]:
    """Return what ssh's arguments mean for us.

    Raises:
        DockstackError: one of them means something that we have not.
    """
    found: dict[str, str] = {}
    words = iter(shlex.split(text))
    for word in words:
        option = word[2:] or next(words, "") if word.startswith(("-o", "-J")) else ""
        name, _, value = (f"ProxyJump={option}" if word.startswith("-J") else option).partition("=")
        if name.lower() == "proxyjump" and value:
            found["jump"] = value
        elif name.lower() == "userknownhostsfile" and value:
            found["known_hosts"] = value
        elif name.lower() not in HARMLESS:
            raise DockstackError(
                f"{variable} of {host} has {word!r}, which nodes cannot be reached with.",
                "Jump hosts are written -J HOST or -o ProxyJump=HOST; anything else belongs into ~/.ssh/config.",
            )
    return found
