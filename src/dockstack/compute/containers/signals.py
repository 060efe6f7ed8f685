# SPDX-License-Identifier: Apache-2.0
"""Which signals a process handles."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from dockstack.errors import DockstackError

_CAUGHT = "SigCgt:"
_NAME = re.compile(r"(SIG)?[A-Z]+[0-9]*(?P<offset>[+-][0-9]{1,2})?|[0-9]{1,2}", re.IGNORECASE | re.ASCII)
_ENGINES_OFFSETS = {*(f"RTMIN+{n}" for n in range(16)), *(f"RTMAX-{n}" for n in range(15))}  # moby/sys/signal


class NoSignal(DockstackError):  # noqa: N818
    """There is no such signal."""


def is_handled(pid: int, name: str, processes: Path = Path("/proc")) -> bool:
    """Whether a process has a handler for a signal; the kernel drops others that are sent to a server's first process.

    Args:
        pid: the process, in our own namespace.
        name: as image properties have it: SIGABRT, ABRT or 6, SIGRTMIN+3.
        processes: where the kernel shows processes (proc(5), status).

    Raises:
        NoSignal: there is no such signal.
    """
    number = number_of(name)
    if number == signal.SIGKILL:
        return True
    try:
        lines = (processes / str(pid) / "status").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return False
    masks = [int(line.removeprefix(_CAUGHT), 16) for line in lines if line.startswith(_CAUGHT)]
    return any(mask >> (number - 1) & 1 for mask in masks)


def spell(name: str) -> str:
    """Write a signal as every engine takes it, who know no case and few of the real-time ones by name.

    Raises:
        NoSignal: there is no such signal.
    """
    number, upper = number_of(name), name.upper()
    found = _NAME.fullmatch(upper)
    named = found is None or not found["offset"] or upper.removeprefix("SIG") in _ENGINES_OFFSETS
    return upper if named else str(number)


def number_of(name: str) -> int:
    """Return a signal's number.

    Raises:
        NoSignal: there is no such signal.
    """
    if not _NAME.fullmatch(name):
        raise _no_signal(name)
    base, sign, offset = name.upper().replace("-", "+-").partition("+")
    try:
        number = int(base) if base.isdigit() else signal.Signals[base if base.startswith("SIG") else "SIG" + base].value
        number += int(offset) if sign else 0
        if number not in signal.valid_signals():
            raise ValueError(number)  # noqa: TRY301 - as what is no number at all
    except (KeyError, ValueError) as error:
        raise _no_signal(name) from error
    return int(number)


def _no_signal(name: str) -> NoSignal:
    return NoSignal(f"There is no signal {name[:80]!r}.", "Name one such as SIGABRT or SIGQUIT.")
