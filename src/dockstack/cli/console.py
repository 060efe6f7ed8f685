# SPDX-License-Identifier: Apache-2.0
"""``dockstack console``: a server's serial console in this terminal, or its address for a browser."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from openstack import exceptions

from dockstack.errors import DockstackError
from dockstack.verify.cloud import DEFAULT_CLOUD, connect
from dockstack.verify.console import ConsoleClient, NoConsole, create_address, open_console, page_of, trust

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAVE = b"\x1d"  # Ctrl-], as in telnet and virsh
_READ = 4096


@click.command()
@click.argument("server")
@click.option("--url", "only_url", is_flag=True, help="Print the address of the page with the console, for a browser.")
@click.option(
    "--os-cloud", envvar="OS_CLOUD", default=DEFAULT_CLOUD, show_default=True, help="Which cloud of clouds.yaml."
)
def console(*, server: str, only_url: bool, os_cloud: str) -> None:
    """Open the serial console of SERVER (name or id).

    The server's log comes first; Enter brings a login. Ctrl-] leaves. A login that is left open ends after a minute.
    """
    connection = connect(os_cloud)
    address = find_address(connection, server)
    if only_url:
        click.echo(page_of(address))
        return
    if not sys.stdin.isatty():
        raise DockstackError("A console needs a terminal to type in.", "Run it in one, or use --url and a browser.")
    click.echo(f"Console of {server}; Ctrl-] leaves.", err=True)
    with open_console(address, trust(connection)) as line, raw_terminal():
        reason = converse(line)
    click.echo(f"\n{reason}", err=True)


def find_address(connection: Any, name: str) -> str:
    """Ask Nova.

    Raises:
        DockstackError: there is no such server, or it has no console now.
    """
    try:
        found = connection.compute.find_server(name, ignore_missing=False)
        return create_address(connection, found)
    except exceptions.SDKException as error:
        raise DockstackError(
            f"There is no console of {name}: {error}", "`openstack server list` shows the servers; it has to be ACTIVE."
        ) from error


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Pass every key on as it is, and put the terminal back in the end."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def converse(line: ConsoleClient) -> str:
    """Carry bytes both ways until one end leaves; return why."""
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    resized = [True]
    before = signal.signal(signal.SIGWINCH, lambda *_: resized.__setitem__(0, True))
    try:
        while True:
            if resized.pop():
                size = os.get_terminal_size(stdout)
                line.report_size(size.lines, size.columns)
            resized.append(False)
            ready, _, _ = select.select([stdin, line], [], [], 0 if line.held() else 0.5)
            if stdin in ready:
                typed = os.read(stdin, _READ)
                if not typed or LEAVE in typed:
                    return "Left; the server goes on."
                line.write(typed)
            if line in ready or line.held():
                write_all(stdout, line.read(0))
    except NoConsole as end:
        return str(end)
    finally:
        signal.signal(signal.SIGWINCH, before)


def write_all(descriptor: int, data: bytes) -> None:
    """Write, in as many pieces as it takes."""
    while data:
        data = data[os.write(descriptor, data) :]
