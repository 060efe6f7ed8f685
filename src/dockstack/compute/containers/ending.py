# SPDX-License-Identifier: Apache-2.0
"""How a server's first process ended, in words that say what to do about it."""

from __future__ import annotations

import shlex
import signal
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.compute.engine import Container

EARLY_SECONDS = 10  # who ends by then has not come up
_LONGEST_REST = 300  # seconds

# What a process that was killed ends with, and one that ended while the engine was not there to see it
_KILLED, _UNSEEN = 128 + signal.SIGKILL, 255
# What the kernel ends a namespace's first process with when any of its processes calls reboot(2), "Behavior inside PID
# namespaces"
_REBOOTED, _SWITCHED_OFF = 128 + signal.SIGHUP, 128 + signal.SIGINT
_REBOOT = ("SYS_BOOT", "CAP_SYS_BOOT")  # engines differ in how they keep it
_SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh"})
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # what shells end with (POSIX, "Exit Status for Commands")
_SHOWN = 36  # characters of a command: Nova keeps 255 of a fault
_STAYS = "A server runs as long as that does: set a docker_command that stays, or docker_tty=true for a shell."


def describe(container: Container) -> str:
    """Say what ended, when, with which status, and what to do if that was too early; empty if nothing has ended."""
    seconds = _seconds(container)
    if seconds is None or container.exit_code is None:
        return ""
    if _called_reboot(container):
        how = "rebooted" if is_reboot(container) else "shut down"
        return f"The system in the server was {how} after {seconds:.1f} s."
    command = ascii(shlex.join(container.command))[1:-1]
    shown = command if len(command) <= _SHOWN else command[: _SHOWN - 3] + "..."
    said = f"The first process ({shown}) ended after {seconds:.1f} s with status {_status(container)}."
    return f"{said} {_hint(container)}" if is_early(container) else said


def is_early(container: Container) -> bool:
    """Whether a server's first process ended by itself before the server can have come up.

    One that was killed has not ended by itself, unless it needed more memory than it may have; one that asks for a
    reboot, or to be switched off, has come up.
    """
    seconds = _seconds(container)
    if seconds is None or container.exit_code is None or seconds >= EARLY_SECONDS or _called_reboot(container):
        return False
    return container.exit_code not in (_KILLED, _UNSEEN) or container.oom_killed


def is_reboot(container: Container) -> bool:
    """Whether a server is off because it was rebooted from inside, and so is to be started again."""
    return container.exit_code == _REBOOTED and _called_reboot(container)


def rest(container: Container, before: int) -> float:
    """Return how many seconds a server that was rebooted shall stay off: one that always does that costs little.

    Args:
        container: its own.
        before: how many reboots as early as this one came just before it.
    """
    whole = min(EARLY_SECONDS / 2 * 2 ** min(before, 10), _LONGEST_REST)
    return max(0.0, whole - (_seconds(container) or 0.0)) if has_hardly_run(container) else 0.0


def has_hardly_run(container: Container) -> bool:
    """Whether what has ended can hardly have come up."""
    return (_seconds(container) or 0.0) < EARLY_SECONDS


def has_come_up(container: Container) -> bool:
    """Whether a server has run for so long that it has come up."""
    if not container.pid:
        return False
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(container.started_at)).total_seconds() >= EARLY_SECONDS
    except ValueError:
        return False


def _called_reboot(container: Container) -> bool:
    may = any(name in _REBOOT for name in container.host_config.get("CapAdd") or ())
    return may and container.exit_code in (_REBOOTED, _SWITCHED_OFF)


def _hint(container: Container) -> str:
    if container.oom_killed:
        return "It needed more memory than the flavor has: choose a larger one."
    if container.exit_code in (_NOT_EXECUTABLE, _NOT_FOUND):
        return "It found no program, or none for this machine: look at the console log and the image's command."
    if PurePosixPath(container.command[0]).name in _SHELLS and len(container.command) == 1 and not container.tty:
        return "So does a shell without a terminal: set docker_tty=true on the image, or a docker_command that stays."
    return f"See the console log. {_STAYS}" if container.exit_code else _STAYS


def _status(container: Container) -> str:
    code = container.exit_code or 0
    if container.oom_killed:
        return f"{code} (out of memory)"
    try:
        return f"{code} ({signal.Signals(code - 128).name})"
    except ValueError:
        return str(code)


def _seconds(container: Container) -> float | None:
    """Count the seconds that the first process ran; None if it never did, or does.

    The engine notes a start when the runtime has returned from it. A process may have ended before.
    """
    if container.pid or not container.command:
        return None
    try:
        began, ended = map(datetime.fromisoformat, (container.started_at, container.finished_at))
    except ValueError:
        return None
    return max(0.0, (ended - began).total_seconds()) if min(began, ended).year > 1 else None
