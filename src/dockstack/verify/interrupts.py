# SPDX-License-Identifier: Apache-2.0
"""Postpone Ctrl-C while a "do" and the registration of its "undo" run; in between it would leave something behind."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def postponed() -> Iterator[None]:
    """Postpone Ctrl-C to the end of the block; does nothing in other threads, which get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        waiting.append(number)

    before = {number: signal.signal(number, note) for number in INTERRUPTS}
    try:
        yield
    finally:
        for interrupt, handler in before.items():
            signal.signal(interrupt, signal.SIG_DFL if handler is None else handler)
        if waiting:
            signal.raise_signal(waiting[0])
