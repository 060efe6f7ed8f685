# SPDX-License-Identifier: Apache-2.0
"""What the directories of deployers have in common besides variables: an inventory, and certificates of authorities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockstack.deploy.join import ansible
from dockstack.deploy.join.deployer_variables import UntoldError
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dockstack.deploy.join.deployer_variables import Filling


@dataclass(frozen=True)
class Site:
    """The hosts of a cloud, from a deployer's inventory."""

    path: str
    listed: Mapping[str, Any]

    def has(self, group: str) -> bool:
        """Tell whether a group has hosts."""
        return bool(ansible.members(self.listed, group))

    def addresses(self, group: str, *variables: str) -> tuple[tuple[str, ...], str]:
        """Return how the hosts of a group are reached, and where that is said.

        Args:
            group: the group.
            variables: which of a host's variables counts before ansible_host, and before its name.

        Raises:
            UntoldError: there is no host in it.
        """
        hosts = ansible.members(self.listed, group)
        if not hosts:
            raise UntoldError(f"{self.path} has no host in the group {group}.")
        return tuple(self._address(host, variables) for host in hosts), f"{self.path} group {group}"

    def _address(self, host: str, variables: Iterable[str]) -> str:
        told = ansible.variables_of(self.listed, host)
        return next((str(told[name]) for name in (*variables, "ansible_host") if told.get(name)), host)


def inventory_of(root: Path, names: Iterable[str], named: str | None) -> str:
    """Return where the inventory is: what was named, or the one of these names that a directory has.

    Raises:
        DockstackError: it has none, or several.
    """
    found = [named] if named else [str(root / name) for name in names if (root / name).exists()]
    if len(found) == 1:
        return found[0]
    there = f"several inventories ({', '.join(found)})" if found else "no inventory"
    raise DockstackError(
        f"{root} has {there}.", "Name it: --inventory FILE, or what `ansible-inventory --list` printed."
    )


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL, where a version 6 address has brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def databases(filling: Filling, site: Site, protocol: str, places: Mapping[str, tuple[str, object]]) -> None:
    """Fill keys with OVN's databases, each on all hosts of a group, at a port."""
    for key, (group, port) in places.items():
        try:
            hosts, where = site.addresses(group)
        except UntoldError as untold:
            filling.miss(key, untold.brief)
        else:
            filling.put(key, [f"{protocol}:{bracketed(host)}:{port}" for host in hosts], where)


def authority(filling: Filling, key: str, paths: Iterable[Path]) -> None:
    """Fill a key with certificates, or say which file is wanted."""
    files = list(paths)
    try:
        text = "\n".join(path.read_text().strip() for path in files)
    except (OSError, UnicodeDecodeError):
        named = ", ".join(str(path) for path in files)
        filling.miss(key, f"{named} cannot be read here. Give that file's content.")
    else:
        filling.put(key, text, *(str(path) for path in files))
