# SPDX-License-Identifier: Apache-2.0
"""What goes on now on each of many hosts: drawn on a terminal, in lines elsewhere, as JSON lines for machines."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dockstack.deploy.run.events import Event, Kind
from dockstack.display import printable
from dockstack.terminal import Screen, say, styled

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = (Kind.START, Kind.SAY)


class Hosts(Protocol):
    """Shows events of hosts; any thread may tell of one."""

    def tell(self, host: str, event: Event) -> None:
        """Take in what a host tells."""
        ...

    def line(self, host: str, *parts: str | tuple[str, str]) -> None:
        """Leave a line about a host that is through."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End."""
        ...


class Json:
    """Prints each event with its host; what came of the hosts follows at the end."""

    def __init__(self) -> None:
        """Begin."""
        self._lock = threading.Lock()

    def tell(self, host: str, event: Event) -> None:
        """Print one line."""
        with self._lock:
            click.echo(json.dumps({"host": host, **json.loads(event.line())}))

    def line(self, host: str, *parts: str | tuple[str, str]) -> None:
        """Say nothing: the end does."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""


class Plain(Json):
    """Prints a line for each thing that a host begins."""

    def tell(self, host: str, event: Event) -> None:
        """Print what is worth a line."""
        if event.kind in SHOWN:
            with self._lock:
                say(f"{host}: {event.text or event.title}")

    def line(self, host: str, *parts: str | tuple[str, str]) -> None:
        """Print the line."""
        with self._lock:
            Screen().print(styled(host, ": ", *parts), soft_wrap=True)


class Terminal(Json):
    """Draws a line for each host at work: what it does, and since when."""

    def __init__(self, screen: Screen, hosts: Iterable[str]) -> None:
        """Draw on this screen."""
        super().__init__()
        self._screen = screen
        self._waiting = list(hosts)
        self._now: dict[str, tuple[str, float]] = {}
        self._live = Live(get_renderable=self._draw, console=screen, refresh_per_second=4, transient=True)

    def tell(self, host: str, event: Event) -> None:
        """Take in one event; the live part draws itself."""
        if event.kind in SHOWN:
            with self._lock:
                self._now[host] = (event.text or event.title, time.monotonic())

    def line(self, host: str, *parts: str | tuple[str, str]) -> None:
        """Leave the line above what is drawn."""
        with self._lock:
            self._now.pop(host, None)
            self._waiting.remove(host)
        self._screen.print(styled(host, ": ", *parts), soft_wrap=True)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def _draw(self) -> Group:
        table, now = Table.grid(padding=(0, 1)), time.monotonic()
        with self._lock:
            for host, (doing, since) in self._now.items():
                told = Text(printable(doing), style="dim", overflow="ellipsis", no_wrap=True)
                table.add_row(host, Text(f"{now - since:4.0f} s", style="dim"), told)
            left = Text(f"{len(self._waiting)} hosts to go", style="dim")
        return Group(table, left)


def choose(hosts: Iterable[str], *, as_json: bool) -> Hosts:
    """Return the display that fits where the output goes."""
    if as_json:
        return Json()
    screen = Screen()
    return Terminal(screen, hosts) if screen.is_terminal else Plain()
