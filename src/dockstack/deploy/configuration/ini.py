# SPDX-License-Identifier: Apache-2.0
"""INI files as data: sections of options, rendered in a stable order."""

from __future__ import annotations

from collections.abc import Mapping

Ini = Mapping[str, Mapping[str, str]]

WRITTEN_BY_US = "# Written by dockstack"
_HEADER = f"{WRITTEN_BY_US}: changes are lost at the next run; set attributes instead.\n"


def render_ini(ini: Ini) -> str:
    """Return the file's text; sections and options keep the order they were given in.

    oslo.config reads a dollar sign as the start of a reference, so values may use it on purpose only.
    """
    blocks = []
    for section, options in ini.items():
        lines = [f"[{section}]"]
        lines += [f"{name} = {value}".rstrip() for name, value in options.items()]
        blocks.append("\n".join(lines) + "\n")
    return _HEADER + "\n" + "\n".join(blocks)


def merge_ini(*parts: Ini) -> dict[str, dict[str, str]]:
    """Return one INI in which later parts win, option by option."""
    merged: dict[str, dict[str, str]] = {}
    for part in parts:
        for section, options in part.items():
            merged.setdefault(section, {}).update(options)
    return merged
