# SPDX-License-Identifier: Apache-2.0
"""Every "do" registers its "undo" on the next line."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG = logging.getLogger(__name__)


class Undo:
    """A stack of calls that take back what was done."""

    def __init__(self) -> None:
        """Start with nothing to take back."""
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []

    def push(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Register ``call(*args, **kwargs)``; the last one registered runs first."""
        self._calls.append((call, args, kwargs))

    def run(self) -> None:
        """Take everything back; a failing undo is logged and the rest still runs."""
        while self._calls:
            call, args, kwargs = self._calls.pop()
            try:
                call(*args, **kwargs)
            except Exception:
                LOG.exception("Undo step %s failed; going on with the rest", getattr(call, "__qualname__", call))


@contextmanager
def undo_on_error() -> Iterator[Undo]:
    """Run the registered undo calls if the body fails, then re-raise the first error."""
    undo = Undo()
    try:
        yield undo
    except BaseException:
        undo.run()
        raise
