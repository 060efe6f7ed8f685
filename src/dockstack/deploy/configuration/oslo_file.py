# SPDX-License-Identifier: Apache-2.0
"""Read an oslo.config file as the services do: duplicate sections add up, ``$name`` refers to another option."""

from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini

# "$$" is a dollar sign; "$name", "${name}" and "${section.name}" refer to options.
_REFERENCE = re.compile(r"\$(?:(\$)|\{(?:(\w+)\.)?(\w+)\}|(\w+))")
DEEPEST = 5  # references of references


def parse(text: str, name: str) -> Ini:
    """Return the file's sections.

    Args:
        text: its content.
        name: what errors call it.

    Raises:
        DockstackError: it is no such file.
    """
    # Nothing is an INI file's own default section here: [DEFAULT] is one like any other.
    parser = configparser.RawConfigParser(
        strict=False, default_section="\0", delimiters=("=", ":"), comment_prefixes=("#", ";"), allow_no_value=True
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise DockstackError(f"{name} is no configuration file of a service.", "Check what was named.") from error
    plain = {
        section: {option: _unquoted(value or "") for option, value in parser.items(section)}
        for section in parser.sections()
    }
    return {
        section: {option: _resolved(value, plain, name, DEEPEST) for option, value in options.items()}
        for section, options in plain.items()
    }


def literal(value: str) -> str:
    """Return a value as it is written into such a file, where a dollar sign would be a reference."""
    return value.replace("$", "$$")


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _resolved(value: str, plain: Ini, name: str, depth: int) -> str:
    """Put in what references stand for; one to an option that the file does not set stays as it is."""

    def meant(found: re.Match[str]) -> str:
        if found.group(1):
            return "$"
        section, option = found.group(2) or "DEFAULT", found.group(3) or found.group(4)
        other = plain.get(section, {}).get(option)
        return found.group() if other is None or not depth else _resolved(other, plain, name, depth - 1)

    return _REFERENCE.sub(meant, value)
