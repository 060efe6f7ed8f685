# SPDX-License-Identifier: Apache-2.0
"""Typed, documented attributes: defaults < role < environment file < node < command line.

All attributes are listed in ``catalogue.py``. An unknown name or a value of the wrong kind is refused
with the nearest right name; nothing is silently ignored.
"""

from __future__ import annotations

import difflib
import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import yaml

from dockstack.deploy.wanted import document
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DEFAULT = "default"
COMMAND_LINE = "command line"
"""The source of a value that nobody set."""
MAX_PORT = 65535
MAX_MODE = 0o7777


class Kind(StrEnum):
    """What values an attribute takes."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "number"
    STRING = "string"
    LIST = "list"  # each layer replaces the ones before
    APPENDED = "appended list"  # each layer adds to the ones before; nothing is ever removed
    PORT = "port"
    ADDRESS = "address"
    CIDR = "network (CIDR)"
    MODE = "mode (octal)"
    PATH = "absolute path"


class AttributeRefusedError(DockstackError):
    """An attribute's name or value cannot be used."""


@dataclass(frozen=True)
class Attribute:
    """One attribute: its name, kind, default and when to change it."""

    name: str
    kind: Kind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    refuse: Callable[[Any], str] | None = None  # why a value of the right kind cannot be used; "" if it can

    def parse(self, value: Any, source: str) -> Any:
        """Return the value in its Python type.

        Raises:
            AttributeRefusedError: the value does not fit; the error names the source and says what would.
        """
        try:
            parsed = _PARSERS[self.kind](value)
        except (ValueError, TypeError) as error:
            raise self._refused(value, source) from error
        if self.choices and parsed not in self.choices:
            raise self._refused(value, source)
        if self.minimum is not None and float(str(parsed)) < self.minimum:
            raise self._refused(value, source)
        reason = self.refuse(parsed) if self.refuse else ""
        if reason:
            raise AttributeRefusedError(f"{self.name} = {value!r} (from {source}) is refused: {reason}", self.help)
        return parsed

    def _refused(self, value: Any, source: str) -> AttributeRefusedError:
        wanted = f"one of {', '.join(self.choices)}" if self.choices else f"a value of kind {self.kind.value}"
        if self.minimum is not None:
            wanted += f", at least {self.minimum:g}"
        near = difflib.get_close_matches(str(value), self.choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return AttributeRefusedError(
            f"{self.name} = {value!r} (from {source}) is not {wanted}.{hint}",
            f"Set it to something like {self.name}: {self.show(self.default_value)} ({self.help})",
        )

    @property
    def default_value(self) -> Any:
        """The default in its Python type."""
        return _PARSERS[self.kind](self.default)

    def show(self, value: Any) -> str:
        """Return the value as a person would write it."""
        if self.kind is Kind.MODE:
            return f"{value:o}"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return ", ".join(value)
        return str(value)


@dataclass(frozen=True)
class Setting:
    """A value and where it came from."""

    attribute: Attribute
    value: Any
    source: str


@dataclass(frozen=True)
class SourceValues:
    """Values of one source, by dotted name."""

    source: str
    values: Mapping[str, Any]


class Attributes:
    """The settings of one node, whole."""

    def __init__(self, settings: Mapping[str, Setting], listing: str) -> None:
        """Use ``resolve`` rather than this."""
        self._settings = dict(settings)
        self._listing = listing

    def __getitem__(self, name: str) -> Any:
        """Return the typed value; an unknown name is a mistake in our own code and says so."""
        return self.setting(name).value

    def text(self, name: str) -> str:
        """Return a string-like value."""
        return str(self[name])

    def number(self, name: str) -> int:
        """Return an integer value (integers, ports and modes)."""
        return int(self[name])

    def ratio(self, name: str) -> float:
        """Return a floating point value."""
        return float(self[name])

    def flag(self, name: str) -> bool:
        """Return a boolean value."""
        return bool(self[name])

    def items(self, name: str) -> tuple[str, ...]:
        """Return a list value."""
        return tuple(self[name])

    def setting(self, name: str) -> Setting:
        """Return the value with its provenance.

        Raises:
            AttributeRefusedError: there is no such attribute.
        """
        if name not in self._settings:
            raise unknown_name(name, "the lookup", self._settings, self._listing)
        return self._settings[name]

    def with_value(self, name: str, *, value: Any, source: str) -> Attributes:
        """Return these with one value of another source, which wins.

        Raises:
            AttributeRefusedError: there is no such attribute, or the value does not fit.
        """
        return Attributes({**self._settings, name: _overlay(self.setting(name), value, source)}, self._listing)

    def settings(self) -> tuple[Setting, ...]:
        """Return all settings in the order of the catalogue."""
        return tuple(self._settings.values())


def resolve(
    catalogue: Iterable[Attribute], sources: Iterable[SourceValues], listing: str = "dockstack config show"
) -> Attributes:
    """Lay the values of all sources over the defaults, the later over the earlier.

    Args:
        catalogue: all names that there are.
        sources: their values.
        listing: the command that lists them, for whoever wrote another name.

    Raises:
        AttributeRefusedError: a name or value cannot be used.
    """
    settings = {
        attribute.name: Setting(attribute, attribute.parse(attribute.default, DEFAULT), DEFAULT)
        for attribute in catalogue
    }
    for each in sources:
        for name, value in each.values.items():
            if name not in settings:
                raise unknown_name(name, each.source, settings, listing)
            before = settings[name]
            settings[name] = _overlay(before, value, each.source)
    return Attributes(settings, listing)


def _overlay(before: Setting, value: Any, source: str) -> Setting:
    parsed = before.attribute.parse(value, source)
    if before.attribute.kind is not Kind.APPENDED:
        return Setting(before.attribute, parsed, source)
    added = tuple(item for item in parsed if item not in before.value)
    return Setting(before.attribute, before.value + added, f"{before.source} + {source}")


def unknown_name(name: str, source: str, known: Iterable[str], listing: str) -> AttributeRefusedError:
    """Build the refusal of a name that is not in the catalogue."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in names}
    if not near:
        tail = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.6)
        near = [tails[tail[0]]] if tail else []
    hint = f"Did you mean {near[0]}?" if near else ""
    return AttributeRefusedError(
        f"There is no attribute {name!r} (from {source}).",
        f"{hint} `{listing}` lists them all.".strip(),
    )


def flatten(tree: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings of a YAML file into dotted names; dotted keys may be mixed in."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, source, f"{name}."))
        else:
            flat[name] = value
    return flat


def command_line_values(assignments: Iterable[str]) -> SourceValues:
    """Parse ``--set name=value``; the value is YAML, so that lists and booleans can be written.

    Raises:
        AttributeRefusedError: there is no ``=``, or the value is no YAML.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name.strip():
            raise AttributeRefusedError(
                f"--set {assignment!r} is no assignment.", "Write --set name=value, as in --set workers.conductor=2"
            )
        try:
            values[name.strip()] = document.parse(text)
        except yaml.YAMLError as error:
            raise AttributeRefusedError(
                f"The value of --set {assignment!r} is no YAML.", "Quote it, or write a list as [a, b]."
            ) from error
    return SourceValues(COMMAND_LINE, values)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)


def _string(value: Any) -> str:
    if isinstance(value, bool | dict | list) or value is None:
        raise ValueError(value)
    return str(value)


def _list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    return tuple(_string(item) for item in value)


def _port(value: Any) -> int:
    port = _integer(value)
    if not 0 < port <= MAX_PORT:
        raise ValueError(value)
    return port


def _address(value: Any) -> str:
    return str(ipaddress.ip_address(_string(value)))


def _cidr(value: Any) -> str:
    return str(ipaddress.ip_network(_string(value)))


def _mode(value: Any) -> int:
    """Read octal digits: in YAML, ``660`` is a decimal number and ``0o660`` an octal one; a mode is always octal."""
    if isinstance(value, bool):
        raise TypeError(value)
    mode = int(str(value).removeprefix("0o"), 8)
    if mode > MAX_MODE:
        raise ValueError(value)
    return mode


def _path(value: Any) -> str:
    path = _string(value)
    if not path.startswith("/"):
        raise ValueError(value)
    return path


_PARSERS = {
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.STRING: _string,
    Kind.LIST: _list,
    Kind.APPENDED: _list,
    Kind.PORT: _port,
    Kind.ADDRESS: _address,
    Kind.CIDR: _cidr,
    Kind.MODE: _mode,
    Kind.PATH: _path,
}
