# SPDX-License-Identifier: Apache-2.0
"""The cloud document: what a compute node must know of a cloud, each value with its provenance.

Two files hold it: one that may be read and kept beside other configuration, and one of mode 0600 with the secrets.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.wanted import document
from dockstack.deploy.wanted.attributes import COMMAND_LINE, DEFAULT, Attributes, Kind, Setting, SourceValues, resolve
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS, OPEN_VSWITCH, OVN, Key, Need
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LISTING = "dockstack cloud keys"
SET_FILE = "--set-file "  # what a value's source begins with that was given so
HEADING = """\
# Written by `dockstack cloud import`. What is changed here by hand counts, until the next import.
# Where `dockstack up` writes it anew for its nodes, it keeps --set, --set-file and what stands here as KEY: VALUE.
"""
FORMS = (
    ("messaging.transport_url", r"rabbit://\S+@\S+", "rabbit://USER:PASSWORD@HOST:PORT/"),
    ("messaging.neutron_transport_url", r"rabbit://\S+@\S+", "rabbit://USER:PASSWORD@HOST:PORT/"),
    ("identity.auth_url", r"https?://[^\s/]+\S*", "http://HOST:PORT/v3"),
    ("ovn.southbound", r"(tcp|ssl):\S+:\d+", "tcp:HOST:PORT"),
    ("ovn.northbound", r"(tcp|ssl):\S+:\d+", "tcp:HOST:PORT"),
    ("openvswitch.bridge_mappings", r"[^\s:;,]+:[A-Za-z0-9_.-]{1,15}", "NETWORK:BRIDGE"),
)
_HOST = re.compile(r"(?:^|://|@|,|:)(\[[0-9a-fA-F:.]+\]|127(?:\.\d+){3}|localhost)(?=[:/,]|$)")


class CloudIncompleteError(DockstackError):
    """The document lacks something, or holds what no other machine can use."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key."""

    key: str
    text: str


class CloudDocument:
    """One cloud, as its compute nodes see it."""

    def __init__(self, sources: Iterable[SourceValues]) -> None:
        """Lay the values of all sources over the defaults, the later over the earlier.

        Raises:
            AttributeRefusedError: a key is not known, or its value cannot be used.
        """
        self.values: Attributes = resolve(CLOUD_KEYS, sources, LISTING)

    def text(self, key: str) -> str:
        """Return a value as text."""
        return self.values.text(key)

    def and_then(self, more: SourceValues) -> CloudDocument:
        """Return the document with further values, which win."""
        known = [SourceValues(one.source, {key.name: one.value}) for key, one in self.settings()]
        return CloudDocument([*(source for source in known if source.source != DEFAULT), more])

    def settings(self) -> Iterator[tuple[Key, Setting]]:
        """Yield all keys with their values."""
        for key in CLOUD_KEYS:
            yield key, self.values.setting(key.name)

    def said(self, path: str | Path) -> list[SourceValues]:
        """Return what a person has said of our own cloud: by options of the import, or plainly in these files.

        Its release is what is installed, and goes on with it.
        """
        own = {COMMAND_LINE, str(path), str(secrets_path(path))}
        return [
            SourceValues(one.source, {key.name: one.value})
            for key, one in self.settings()
            if (one.source in own or one.source.startswith(SET_FILE)) and key.name != "release"
        ]

    def is_of_another_cloud(self, other: CloudDocument) -> bool:
        """Tell whether another document is of another cloud; one that has moved keeps its accounts, at least."""
        return all(self.text(key) != other.text(key) for key in ("identity.auth_url", "accounts.nova.password"))

    def secrets(self) -> tuple[str, ...]:
        """Return all secret values that are there, for redaction."""
        return tuple(str(setting.value) for key, setting in self.settings() if key.secret and setting.value)

    def needs(self, key: Key) -> bool:
        """Tell whether this cloud's nodes cannot do without a key."""
        cinder = bool(self.text("accounts.cinder.username"))
        return key.need.holds(self.mechanism if self.own_switch else "", cinder=cinder)

    def has_use_for(self, key: Key) -> bool:
        """Tell whether this cloud's nodes do anything with a key."""
        group = key.name.partition(".")[0]
        idle = (group == OVN and not self.own_switch) or (group in {OVN, OPEN_VSWITCH} and group != self.mechanism)
        return self.needs(key) or (key.need is Need.OPTIONAL and not idle)

    @property
    def mechanism(self) -> str:
        """What makes its networks on the nodes: OVN or OPEN_VSWITCH."""
        return self.text("network.mechanism")

    @property
    def own_switch(self) -> bool:
        """Whether nodes run the switch and what belongs to it themselves, rather than the cloud's deployer."""
        return self.text("network.switch") == "own"

    def problems(self) -> tuple[Problem, ...]:
        """Return all that keeps other machines from joining: keys that are missing, and addresses of this machine."""
        of_the_switch = (*self._certificates(), *self._agents())
        return (*self._missing(), *self._unreachable(), *self._malformed(), *of_the_switch)

    def require_usable(self, cure: str, known: Iterable[Problem] = ()) -> None:
        """Refuse a document with problems, all named at once.

        Args:
            cure: what to do about them.
            known: problems that a source told of; those of keys that another source has filled since, or that this
                cloud's nodes have no use for, do not count.

        Raises:
            CloudIncompleteError: it has some.
        """
        found = {problem.key: problem for problem in known if self._is_open(problem.key)}
        found |= {problem.key: problem for problem in self.problems() if problem.key not in found}
        if found:
            details = "\n".join(f"- {problem.key}: {problem.text}" for problem in found.values())
            what = "a key is" if len(found) == 1 else f"{len(found)} keys are"
            raise CloudIncompleteError(
                f"No other machine could join with this: {what} missing or wrong.", cure, details
            )

    def _is_open(self, name: str) -> bool:
        key = next(key for key in CLOUD_KEYS if key.name == name)
        return self.has_use_for(key) and self.values.setting(name).source == DEFAULT

    def _missing(self) -> Iterator[Problem]:
        for key, setting in self.settings():
            said = key.blank and setting.source != DEFAULT
            if self.needs(key) and setting.value in {"", ()} and not said:
                yield Problem(key.name, f"missing. {key.help}")

    def _unreachable(self) -> Iterator[Problem]:
        for key, setting in self.settings():
            if key.kind not in {Kind.STRING, Kind.LIST} or key.name.startswith("accounts."):
                continue
            texts = setting.value if isinstance(setting.value, tuple) else (str(setting.value),)
            if any(text.startswith("unix:") for text in texts):
                yield Problem(key.name, f"{texts[0]} (from {setting.source}) is a socket of one machine.")
            elif any(names_loopback(text) for text in texts):
                yield Problem(
                    key.name, f"is on the loopback (from {setting.source}), where no other machine reaches it."
                )

    def _malformed(self) -> Iterator[Problem]:
        for key, pattern, form in FORMS:
            value = self.values[key]
            for text in value if isinstance(value, tuple) else (value,):
                if text and not re.fullmatch(pattern, text) and not text.startswith("unix:"):
                    yield Problem(key, f"is not of the form {form} (from {self.values.setting(key).source}).")

    def _certificates(self) -> Iterator[Problem]:
        remotes = self.values.items("ovn.southbound") if self.own_switch and self.mechanism == OVN else ()
        encrypted = any(remote.startswith("ssl:") for remote in remotes)
        own = () if self.values.flag("ovn.issue") else ("ovn.certificate", "ovn.private_key")
        for name in ("ovn.authority", *own):
            if encrypted and not self.text(name):
                yield Problem(name, "missing, and OVN's databases are spoken to over TLS (ssl:).")

    def _agents(self) -> Iterator[Problem]:
        """Yield what Neutron's Open vSwitch agents of this cloud do that nodes cannot have."""
        driver = self.text("openvswitch.firewall_driver")
        if self.mechanism != OPEN_VSWITCH:
            return
        if "iptables" in driver and not self.own_switch:
            yield Problem(
                "openvswitch.firewall_driver",
                f"{driver} filters on a bridge between a server and the switch, which Docker servers do not have: "
                "their security groups would be bypassed. On these nodes, the deployer's agent must have openvswitch.",
            )
        if self.own_switch and self.values.flag("openvswitch.distributed_routing"):
            yield Problem(
                "openvswitch.distributed_routing",
                "this cloud's routers are on its compute nodes (DVR), which dockstack's own nodes cannot have: no "
                "router would answer their servers. Let the deployer run the switch there (network.switch: deployer).",
            )


def names_loopback(text: str) -> bool:
    """Tell whether an address, or a URL with one or several hosts, names the machine that reads it."""
    for found in _HOST.findall(text):
        if found == "localhost":
            return True
        try:
            if ipaddress.ip_address(found.strip("[]")).is_loopback:
                return True
        except ValueError:
            continue
    return False


# -- the two files ----------------------------------------------------------------------------------------------------


def secrets_path(path: str | Path) -> Path:
    """Return where the secrets of a document are: beside it."""
    path = Path(path)
    return path.with_name(f"{path.stem}-secrets{path.suffix}")


def save(cloud: CloudDocument, path: str | Path) -> None:
    """Write both files whole, the secrets first; what is as by default is left out.

    Raises:
        DockstackError: they cannot be written.
    """
    open_part: dict[str, Any] = {}
    secret_part: dict[str, Any] = {}
    for key, setting in cloud.settings():
        if setting.source != DEFAULT:
            value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
            (secret_part if key.secret else open_part)[key.name] = {"value": value, "from": setting.source}
    try:
        write_atomically(secrets_path(path), HEADING + _yaml(secret_part), mode=0o600)
        write_atomically(path, HEADING + _yaml(open_part))
    except OSError as error:
        raise DockstackError(
            f"{path} cannot be written: {error.strerror}.", "Run as root, or name another place with --cloud."
        ) from error


def load(path: str | Path) -> CloudDocument:
    """Read a document.

    Raises:
        DockstackError: a file is not there, is no document, or a secret stands in the file that others may read.
    """
    open_part, secret_part = _read(Path(path)), _read(secrets_path(path))
    misplaced = [key.name for key in CLOUD_KEYS if key.secret and key.name in open_part]
    if misplaced:
        raise DockstackError(
            f"{path} may be read by others, and holds secrets: {', '.join(misplaced)}.",
            f"Move them to {secrets_path(path)}, and make them new where somebody may have seen them.",
        )
    mode = secrets_path(path).stat().st_mode & 0o777
    if mode & 0o077:
        raise DockstackError(
            f"{secrets_path(path)} has mode {mode:o}: others may read its secrets.",
            f"chmod 600 {secrets_path(path)}, and make the secrets new where somebody may have seen them.",
        )
    return CloudDocument([*_sources(open_part, str(path)), *_sources(secret_part, str(secrets_path(path)))])


def _yaml(part: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(part), sort_keys=False, width=10_000)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = document.parse(path.read_text())
    except FileNotFoundError:
        raise DockstackError(
            f"There is no cloud document {path}.", "`dockstack cloud import` writes one; --cloud names another."
        ) from None
    except OSError as error:
        raise DockstackError(f"{path} cannot be read: {error.strerror}.", "Run as root.") from error
    except yaml.YAMLError as error:
        raise DockstackError(f"{path} is no YAML.", "Correct the place that is named above.", str(error)) from error
    if not isinstance(content, dict | None):
        raise DockstackError(f"{path} does not hold a mapping.", "Write keys with their values.")
    return content or {}


def _sources(part: Mapping[str, Any], path: str) -> Iterator[SourceValues]:
    """Give each value the source that was noted with it; one that a person wrote plainly is the file's own."""
    for name, noted in part.items():
        if isinstance(noted, dict):
            yield SourceValues(str(noted.get("from", path)), {name: noted.get("value")})
        else:
            yield SourceValues(path, {name: noted})
