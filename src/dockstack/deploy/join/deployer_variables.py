# SPDX-License-Identifier: Apache-2.0
"""Variables of a deployer that Ansible runs: which of several files counts, what refers to what, and where it stands.

Ansible's own templates are not run: one that is more than the names of other variables is named as what it is, and a
person says its value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from dockstack.deploy.join.service_files import KEYS, Found
from dockstack.deploy.wanted.attributes import Kind, SourceValues
from dockstack.deploy.wanted.cloud_document import Problem
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

VAULT = "$ANSIBLE_VAULT;"
VAULT_KEY = "__ansible_vault"  # as `ansible-inventory --list` prints such a value
_REFERENCE = re.compile(r"\{\{\s*(\w+)\s*(?:\|\s*(?:bool|int)\s*)?\}\}")
_FIELD = re.compile(r"\{(\w+)\}")
_YES = {"true", "yes", "on", "1"}


class UntoldError(DockstackError):
    """A variable is not set, or nothing but Ansible could tell its value."""

    def __init__(self, brief: str) -> None:
        """Take what is wrong with it."""
        super().__init__(brief, "Write its value into a copy of the directory, and name that.")


@dataclass(frozen=True)
class Told:
    """A value, and each file and variable that it came from."""

    value: Any
    sources: tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """Reads Ansible's own tags, too."""


_Loader.add_constructor("!vault", lambda _loader, _node: {VAULT_KEY: ""})
_Loader.add_constructor("!unsafe", lambda _loader, node: str(node.value))


def read(path: Path) -> dict[str, Any]:
    """Read one file of variables; one that is not there has none.

    Raises:
        DockstackError: it cannot be read, is encrypted, or is no mapping.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DockstackError(f"{path} cannot be read: {error.strerror}.", "Run as root.") from error
    if text.startswith(VAULT):
        raise _encrypted(str(path))
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)  # the error itself would quote a line, which may hold a secret
        line = f", line {where.line + 1}" if where else ""
        raise DockstackError(f"{path} is no YAML{line}.", "Correct it.") from None
    if not isinstance(content, dict | None):
        raise DockstackError(f"{path} holds no variables.", "Is it another file of that name?")
    return content or {}


def _encrypted(what: str) -> DockstackError:
    return DockstackError(
        f"{what} is encrypted by Ansible Vault.",
        "Copy the directory, decrypt the copy (`ansible-vault decrypt`, mode 0600), name that, and remove it after.",
    )


class Variables:
    """Layers of variables, of which a later one wins."""

    def __init__(self, layers: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take them, each with what it is called in provenance."""
        self._values = {name: (layer, value) for layer, values in layers for name, value in values.items()}

    def below(self, layer: str, values: Mapping[str, Any]) -> Variables:
        """Return these, with others for what they leave open."""
        open_ones = {name: value for name, value in values.items() if not self.has(name)}
        made = Variables([(layer, open_ones)])
        made._values = {**self._values, **made._values}
        return made

    def has(self, name: str) -> bool:
        """Tell whether a variable is set to something."""
        return self._values.get(name, ("", None))[1] not in (None, "")

    def told(self, name: str, above: tuple[str, ...] = ()) -> Told:
        """Return a variable's value, with what it refers to put in.

        Raises:
            UntoldError: it is not set, or nothing but Ansible could tell its value.
            DockstackError: it is encrypted.
        """
        if not self.has(name) or name in above:
            raise UntoldError(f"{name} is not set.")
        layer, value = self._values[name]
        source = f"{layer} {name}"
        if isinstance(value, dict) and VAULT_KEY in value:
            raise _encrypted(source)
        if not isinstance(value, str):
            return Told(value, (source,))
        whole = _REFERENCE.fullmatch(value.strip())
        if whole:
            return self.told(whole[1], (*above, name))
        parts = [self.told(found, (*above, name)) for found in dict.fromkeys(_REFERENCE.findall(value))]
        values = dict(zip(dict.fromkeys(_REFERENCE.findall(value)), parts, strict=True))
        if re.search(r"\{[{%]", _REFERENCE.sub("", value)):
            raise UntoldError(f"{source} is no plain value.")
        text = _REFERENCE.sub(lambda match: str(values[match[1]].value), value)
        return Told(text, tuple(dict.fromkeys((source, *(each for part in parts for each in part.sources)))))

    def text(self, name: str) -> str:
        """Return a variable as text."""
        return str(self.told(name).value)

    def flag(self, name: str) -> bool:
        """Return whether a variable is on."""
        return self.text(name).lower() in _YES

    def form(self, form: str) -> Told:
        """Return a text with variables, each named in braces; one that is nothing else keeps its type."""
        names = _FIELD.findall(form)
        parts = {name: self.told(name) for name in names}
        if form == f"{{{names[0]}}}":
            return parts[names[0]]
        text = _FIELD.sub(lambda match: str(parts[match[1]].value), form)
        return Told(text, tuple(dict.fromkeys(each for part in parts.values() for each in part.sources)))


class Filling:
    """What becomes of the cloud document: values with their sources, and all that cannot be told."""

    def __init__(self, variables: Variables) -> None:
        """Take values from these."""
        self.variables = variables
        self._sources: list[SourceValues] = []
        self._problems: list[Problem] = []
        self.warnings: list[str] = []

    def take(self, rows: Mapping[str, str]) -> None:
        """Fill keys from variables that are named in braces."""
        for key, form in rows.items():
            try:
                told = self.variables.form(form)
            except UntoldError as untold:
                self.miss(key, untold.brief)
            else:
                self.put(key, told.value, *told.sources)

    def put(self, key: str, value: Any, *sources: str) -> None:
        """Fill one key."""
        self._sources.append(SourceValues(", ".join(dict.fromkeys(sources)), {key: _typed(key, value)}))

    def miss(self, key: str, why: str) -> None:
        """Note that a key cannot be told."""
        self._problems.append(Problem(key, why))

    def found(self) -> Found:
        """Return all of it."""
        return Found(tuple(self._sources), tuple(self._problems), tuple(self.warnings))


def _typed(key: str, value: Any) -> Any:
    kind = KEYS[key].kind
    if kind is Kind.BOOLEAN:
        return str(value).lower() in _YES
    if kind in {Kind.INTEGER, Kind.PORT} and str(value).isdecimal():
        return int(value)
    return value if kind is Kind.LIST else str(value)  # of a list, the document takes a text with commas, too
