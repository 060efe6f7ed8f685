# SPDX-License-Identifier: Apache-2.0
"""The consoles answer with a prompt, and only to clients that have the address with its token."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

from dockstack.verify.console import NoConsole, create_address, line_of, open_console, page_of, trust
from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import CONSOLE_LINES
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.picture import RETURN, Picture
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import boot

if TYPE_CHECKING:
    import ssl

PROMPT_SECONDS = 90.0
FEW_COLOURS = 8  # an empty screen has two, letters have edges in between


def use_serial_console(ctx: Context) -> None:
    """Two viewers see the boot's log and the same prompt; a third one with a guessed token sees nothing."""
    server = boot(ctx)
    address = create_address(ctx.connection, server)
    ctx.say("opening the serial console")
    trusted = trust(ctx.connection)
    with open_console(address, trusted) as first, open_console(address, trusted) as second:
        first.report_size(30, 100)
        log = b""
        while log.count(b"\n") < CONSOLE_LINES:  # once somebody logs in, the log is shown no further
            log += first.read_until(b"\n", PROMPT_SECONDS)
        first.write(b"\r")
        first.read_until(b"login: ", PROMPT_SECONDS)
        first.write(b"nobody-of-that-name\r")
        seen = second.read_until(b"assword: ", PROMPT_SECONDS)  # the log speaks of passwords too
    if b"nobody-of-that-name" not in seen or seen.count(b"\n") < CONSOLE_LINES:
        raise CheckFailed("The serial console did not begin with the server's log.", details=repr(seen[-2000:]))
    refuse_guessed_token(address, trusted)
    with urllib.request.urlopen(page_of(address), timeout=60, context=trusted) as page:  # noqa: S310 - an address that Nova gave
        if b"console.mjs" not in page.read():
            raise CheckFailed(
                "A browser finds no terminal at the console's address.", "Look at /opt/dockstack/console."
            )


def refuse_guessed_token(address: str, trusted: ssl.SSLContext) -> None:
    """Nova's proxy closes the connection of a client with a guessed token, without sending anything."""
    guessed = address.partition("?token=")[0] + "?token=00000000-0000-4000-8000-000000000000"
    try:
        with open_console(guessed, trusted) as stranger:
            received = stranger.read(PROMPT_SECONDS)
    except NoConsole:
        return
    raise CheckFailed("A guessed token opened a console.", details=repr(received[-200:]))


SERIAL_CONSOLE = Exercise(
    "serial-console",
    "The serial console shows the log and lets its viewers log in",
    use_serial_console,
    frozenset({Capability.GUEST, Capability.DOCKER}),
)


def use_vnc_console(ctx: Context) -> None:
    """The page holds noVNC; a picture with text comes, and another one when a key is pressed."""
    server = boot(ctx)
    page = create_address(ctx.connection, server, "novnc")
    ctx.say("opening the VNC console")
    trusted = trust(ctx.connection)
    with urllib.request.urlopen(page, timeout=60, context=trusted) as answer:  # noqa: S310 - an address that Nova gave
        if b"noVNC" not in answer.read():
            raise CheckFailed("A browser finds no noVNC at the console's address.", "Look at /opt/dockstack/vnc.")
    with open_console(line_of(page), trusted) as console:
        picture = Picture(console)
        wait_until(
            lambda: len(picture.take_colours(PROMPT_SECONDS)) >= FEW_COLOURS,
            PROMPT_SECONDS,
            "the VNC console's picture to hold text",
        )
        picture.press(RETURN)
        picture.take_colours(PROMPT_SECONDS)


VNC_CONSOLE = Exercise(
    "vnc-console",
    "The VNC console draws the terminal, and keys reach it",
    use_vnc_console,
    frozenset({Capability.GUEST, Capability.DOCKER}),
)
