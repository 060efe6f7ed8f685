# SPDX-License-Identifier: Apache-2.0
"""Asking a service whether it is ready: from this machine in Python, on another node by a shell line."""

from __future__ import annotations

import http.client
import shlex
import socket
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

from dockstack.deploy.supervision.services import Check, CheckKind

if TYPE_CHECKING:
    from collections.abc import Sequence

ONE_TRY = 5.0


class Answer(NamedTuple):
    """What came of asking.

    Attributes:
        problem: why the service is not ready; "" if it is.
        spoken: it has said so itself, so it is not just starting.
    """

    problem: str = ""
    spoken: bool = False


def ask(check: Check, *, patience: float = ONE_TRY) -> Answer:
    """Ask once."""
    try:
        if check.kind is CheckKind.HTTP:
            return Answer(_http(check, patience), spoken=True)
        if check.kind is CheckKind.COMMAND:
            return Answer(_command(check.command, patience))
        _connect(check, patience)
    except (OSError, http.client.HTTPException) as error:
        return Answer(f"{check.target} does not answer: {error}")
    except subprocess.TimeoutExpired:
        return Answer(f"{shlex.join(check.command)} does not end within {patience:.0f} s")
    return Answer()


def shell_line(check: Check) -> str:
    """Return a shell line whose success means ready, for a node that is not this machine."""
    if check.kind is CheckKind.COMMAND:
        return shlex.join(check.command)
    if check.kind is CheckKind.UNIX:
        return f"test -S {shlex.quote(check.target)}"
    if check.kind is CheckKind.TCP:
        host, _, port = check.target.rpartition(":")
        return f"timeout 5 bash -c {shlex.quote(f'exec 3<>/dev/tcp/{host}/{port}')}"
    statuses = "|".join(map(str, check.statuses))
    return f"curl -s -m 5 -o /dev/null -w %{{http_code}} {shlex.quote(check.target)} | grep -qE '^({statuses})$'"


def _http(check: Check, patience: float) -> str:
    url = urllib.parse.urlsplit(check.target)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=patience)
    try:
        connection.request("GET", url.path or "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    return "" if status in check.statuses else f"{check.target} answers {status}"


def _command(command: Sequence[str], patience: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return f"{shlex.join(command)}: {lines[-1] if lines else f'exit status {done.returncode}'}"


def _connect(check: Check, patience: float) -> None:
    if check.kind is CheckKind.UNIX:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
            plug.settimeout(patience)
            plug.connect(check.target)
        return
    host, _, port = check.target.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=patience).close()
