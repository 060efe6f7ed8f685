# SPDX-License-Identifier: Apache-2.0
"""What image properties and a server's metadata say, by name: hostile until it is proven to be what it should be.

A tenant writes them freely, so each has a form and a size. None is a way to have the engine or the driver work for a
server outside the server's own limits.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dockstack.compute.containers import signals
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_SHOWN = 80  # characters of a wrong value
_DIGITS = 9  # of a number: what every field of the engine takes


class PropertyError(DockstackError):
    """An image property or a server's metadata says something that we cannot do."""

    def __init__(self, name: str, problem: str) -> None:
        """Name the property."""
        super().__init__(f"The property {name} {problem}.", f"Correct {name} on the image or in the server's metadata.")


class ImageFieldError(DockstackError):
    """An image's own configuration says something that no server can have, and no property says otherwise."""

    def __init__(self, field: str, problem: str, override: str) -> None:
        """Name the field, and the property that wins over it."""
        brief = f"The field {field} of the image's own configuration {problem}."
        super().__init__(
            brief, f"Build the image again, or set {override}, which wins over it, on the image or in the metadata."
        )


class Properties:
    """Reads settings by name: the server's metadata first, then the image's properties."""

    def __init__(self, image: Mapping[str, str], metadata: Mapping[str, str]) -> None:
        """Read these two."""
        self._image, self._metadata = image, metadata
        self._found = {**image, **metadata}

    def levels(self) -> tuple[Properties, Properties]:
        """Return what the image says alone and what the server's metadata says alone, which wins.

        For what can be said by several properties: by whichever of them, the server's word counts.
        """
        return Properties(self._image, {}), Properties({}, self._metadata)

    def optional(self, name: str) -> str | None:
        """Return a value as it is; None if it is not set."""
        return self._found.get(name)

    def prefixed(self, prefix: str) -> dict[str, str]:
        """Return all values whose name begins so, by the rest of the name."""
        return {name.removeprefix(prefix): value for name, value in self._found.items() if name.startswith(prefix)}

    def blame(self, name: str, field: str, problem: str) -> DockstackError:
        """Return the error of a wrong value: the property's if it is set, else that of the image's field behind it.

        Args:
            name: the property.
            field: the image's own; empty: the default is ours.
            problem: what is wrong.
        """
        if field and name not in self._found:
            return ImageFieldError(field, problem, name)
        return PropertyError(name, problem)

    def text(self, name: str, default: str, *, longest: int = 255, field: str = "") -> str:
        """Return one line of text.

        Raises:
            PropertyError, ImageFieldError: it is too long, or has characters that do not print.
        """
        value = self._found.get(name, default)
        if len(value) > longest:
            raise self.blame(name, field, f"has {len(value)} characters; {longest} are the most")
        if not value.isprintable():
            raise self.blame(name, field, f"is {shown(value)}, which has characters that do not print")
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of a few words.

        Raises:
            PropertyError: it is another.
        """
        value = self._found.get(name, default)
        if value not in choices:
            raise PropertyError(name, f"is {shown(value)}, not one of {', '.join(choices)}")
        return value

    def signal(self, name: str, default: str) -> str:
        """Return a signal's name or number, in a form that every engine takes; empty only if that is the default.

        Raises:
            PropertyError: there is no such signal.
        """
        value = self._found.get(name, default)
        if not value:
            return ""
        try:
            return signals.spell(value)
        except signals.NoSignal as error:
            raise PropertyError(name, f"is {shown(value)}, not a signal such as SIGTERM") from error

    def number(self, name: str, default: int, *, largest: int) -> int:
        """Return a number of seconds.

        Raises:
            PropertyError: it is none, or too large.
        """
        value = self._found.get(name, str(default))
        if not value.isascii() or not value.isdigit():
            raise PropertyError(name, f"is {shown(value)}, not a number of seconds")
        digits = value.lstrip("0") or "0"
        if len(digits) > _DIGITS or int(digits) > largest:
            raise PropertyError(name, f"is {shown(value)}; {largest} seconds are the most")
        return int(digits)

    def truth(self, name: str, *, default: bool) -> bool:
        """Return true or false.

        Raises:
            PropertyError: it is neither.
        """
        value = self._found.get(name)
        if value is None:
            return default
        if value.lower() not in _TRUE + _FALSE:
            raise PropertyError(name, f"is {shown(value)}, neither true nor false")
        return value.lower() in _TRUE

    def strings(self, name: str) -> tuple[str, ...] | None:
        """Return a JSON array of strings; None if it is not set.

        Raises:
            PropertyError: it is something else.
        """
        value = self._json(name, list, "a JSON array of strings")
        return None if value is None else tuple(value)

    def mapping(self, name: str) -> dict[str, str]:
        """Return a JSON object of strings; empty if it is not set.

        Raises:
            PropertyError: it is something else.
        """
        return dict(self._json(name, dict, "a JSON object of strings") or {})

    def _json(self, name: str, kind: type[list[str] | dict[str, str]], expected: str) -> Any:
        text = self._found.get(name)
        if text is None:
            return None
        value = parse(text)
        items = [*value, *value.values()] if isinstance(value, dict) else value
        if not isinstance(value, kind) or not all(isinstance(item, str) and can_be_word(item) for item in items):
            raise PropertyError(name, f"is not {expected}: {shown(text)}")
        return value


def parse(text: str) -> Any:
    """Return what a JSON text says; None if it is none, or none that anybody would write."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # malformed, or numbers or brackets without end
        return None


def can_be_word(text: str) -> bool:
    """Whether a text can be a process's argument, or a file's name: no NUL, and nothing that UTF-8 cannot carry."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def shown(value: str) -> str:
    """Return the beginning of a value for an error's text, with everything that does not print written out."""
    return repr(value[:_SHOWN])
