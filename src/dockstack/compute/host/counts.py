# SPDX-License-Identifier: Apache-2.0
"""What this nova-compute did, counted in a file of Prometheus' text format, which dockstack-exporter shows.

A file, because this process may use the engine and so could do anything on the host: it listens to nobody.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, write_to_textfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LOG = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"
PHASES = ("image", "container", "ports", "network", "start")
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds


class Boot:
    """The phases of one boot, as they end; what is left of one that fails counts nowhere."""

    def __init__(self) -> None:
        """Begin."""
        self.begun = self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def reached(self, phase: str) -> None:
        """End a phase, one of ``PHASES``; the next one begins."""
        now = time.monotonic()
        self.seconds[phase] = now - self._last
        self._last = now


class Counts:
    """Counts and keeps the file up to date; a restart begins at nothing, as Prometheus expects it."""

    def __init__(self, path: str) -> None:
        """Count nothing yet.

        Args:
            path: the file; empty to keep none.
        """
        self._path = path
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._actions = Counter(
            "dockstack_compute_actions", "What Nova asked for.", ["action", "result"], registry=self._registry
        )
        self._boots = Histogram(
            "dockstack_compute_boot_seconds", "New servers, whole.", buckets=_BUCKETS, registry=self._registry
        )
        self._phases = Histogram(
            "dockstack_compute_boot_phase_seconds",
            "New servers, step by step.",
            ["phase"],
            buckets=_BUCKETS,
            registry=self._registry,
        )

    @contextmanager
    def boot(self) -> Iterator[Boot]:
        """Count a boot, if the body succeeds."""
        boot = Boot()
        yield boot
        self._boots.observe(time.monotonic() - boot.begun)
        for phase, seconds in boot.seconds.items():
            self._phases.labels(phase).observe(seconds)

    def watch(self, watched: Any, actions: Iterable[str]) -> None:
        """Count the calls of an object's methods by their names, and whether they succeed; without a file, do nothing.

        Args:
            watched: whose; its own attributes then stand before its class's methods.
            actions: their names.
        """
        for name in actions if self._path else ():
            for result in (DONE, FAILED):
                self._actions.labels(name, result)
            setattr(watched, name, self._counting(name, getattr(watched, name)))
        self._write()

    def _counting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def count(*arguments: Any, **named: Any) -> Any:
            try:
                answer = method(*arguments, **named)
            except NotImplementedError:  # Nova then does it in steps, which count themselves
                raise
            except BaseException:
                self._count(name, FAILED)
                raise
            self._count(name, DONE)
            return answer

        return count

    def _count(self, action: str, result: str) -> None:
        self._actions.labels(action, result).inc()
        self._write()

    def _write(self) -> None:
        """Put the file in place; no action fails because it cannot be written."""
        if not self._path:
            return
        try:
            with self._lock:
                write_to_textfile(self._path, self._registry)
        except OSError as error:
            LOG.warning("Cannot count in %s: %s", self._path, error.strerror)
