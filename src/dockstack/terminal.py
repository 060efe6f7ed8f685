# SPDX-License-Identifier: Apache-2.0
"""The terminal, on which a plain string is data: whoever wrote it, it neither styles nor moves anything.

What is to have a style is a ``Text``; ``styled`` builds one. Nothing else of this project imports rich's console, so
that a name with rich's markup or a terminal's control sequences in it is never more than a name.
"""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from dockstack.display import printable, printable_lines


class Screen(Console):
    """A console that shows plain strings as they are written, in tables, too."""

    def __init__(self, *, stderr: bool = False) -> None:
        """Write to standard output, or to standard error."""
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Take every string that is shown, for rich has no other way for one."""
        return super().render_str(printable_lines(text), **{**options, "markup": False, "emoji": False})

    def status(self, status: Any, **options: Any) -> Status:
        """Show a line about what goes on now; its ``update`` takes plain strings, too."""
        return _PlainStatus(styled(status), console=self, **options)


class _PlainStatus(Status):
    def update(self, status: Any = None, **options: Any) -> None:
        super().update(styled(status) if isinstance(status, str) else status, **options)


def styled(*parts: str | tuple[str, str] | Text) -> Text:
    """Build a text of plain strings and of strings with a style, as ``("FAILED", "bold red")``."""
    made = [
        part
        if isinstance(part, Text)
        else printable_lines(part)
        if isinstance(part, str)
        else (printable_lines(part[0]), part[1])
        for part in parts
    ]
    return Text.assemble(*made)


def say(text: object, *, error: bool = False) -> None:
    """Write one line about something whose name a stranger chose."""
    click.echo(printable(text), err=error)


def say_lines(text: object, *, error: bool = False, newline: bool = True) -> None:
    """Write a stranger's lines."""
    click.echo(printable_lines(text), err=error, nl=newline)
