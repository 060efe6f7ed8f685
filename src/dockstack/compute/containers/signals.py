# SPDX-License-Identifier: Apache-2.0
"""Which signals a process handles."""

from __future__ import annotations

import signal
from pathlib import Path

from dockstack.errors import DockstackError

_CAUGHT = "SigCgt:"


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


def number_of(name: str) -> int:
    """Return a signal's number.

    Raises:
        NoSignal: there is no such signal.
    """
    base, sign, offset = name.replace("-", "+-").partition("+")
    try:
        number = int(base) if base.isdigit() else signal.Signals[base if base.startswith("SIG") else "SIG" + base].value
        number += int(offset) if sign else 0
        if number not in signal.valid_signals():
            raise ValueError(number)  # noqa: TRY301 - as what is no number at all
    except (KeyError, ValueError) as error:
        raise NoSignal(f"There is no signal {name[:80]!r}.", "Name one such as SIGABRT or SIGQUIT.") from error
    return int(number)
