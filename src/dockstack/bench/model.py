# SPDX-License-Identifier: Apache-2.0
"""Samples, and what may honestly be said about them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

PREFIX = "dockstack-bench-"
GOAL_FACTOR = 1.25  # of the engine's own create+start, on top of the control plane's floor


@dataclass(frozen=True)
class Boot:
    """One server's life, in seconds."""

    answered: float  # POST to its answer
    active: float  # POST to ACTIVE
    gone: float  # DELETE to 404


@dataclass(frozen=True)
class RawRun:
    """One container's life without OpenStack, in seconds."""

    started: float  # create and start
    removed: float  # rm -f


@dataclass(frozen=True)
class Burst:
    """Many servers asked for at once."""

    asked: int
    active: int
    errors: tuple[str, ...]
    seconds: float  # first POST to the last ACTIVE
    gone_seconds: float

    @property
    def rate(self) -> float:
        """Servers a second that became ACTIVE."""
        return self.active / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Summary:
    """A series in three numbers and its size."""

    n: int
    median: float
    p90: float
    best: float


@dataclass(frozen=True)
class Measurements:
    """All that one run of ``bench boot`` measured.

    Attributes:
        floor: servers of Nova's fake driver, interleaved with the others; empty if it could not be run.
        floor_reason: why there is no floor.
    """

    server: tuple[Boot, ...]
    raw: tuple[RawRun, ...] = ()
    floor: tuple[Boot, ...] = ()
    burst: Burst | None = None
    floor_burst: Burst | None = None
    floor_reason: str = ""
    raw_reason: str = ""
    machine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """Median boot at most the fake driver's plus 1.25 x raw create+start."""

    boot: float
    floor: float
    raw: float

    @property
    def limit(self) -> float:
        """The slowest median that still meets the goal."""
        return self.floor + GOAL_FACTOR * self.raw

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.boot <= self.limit

    @property
    def own_share(self) -> float:
        """What we add to the floor, as a multiple of the engine's own create+start."""
        return (self.boot - self.floor) / self.raw if self.raw else 0.0

    def describe(self) -> str:
        """Say it in one line."""
        return (
            f"goal {'met' if self.met else 'MISSED'}: median boot {self.boot:.2f} s, "
            f"limit {self.limit:.2f} s = floor {self.floor:.2f} + {GOAL_FACTOR} x raw {self.raw:.2f} "
            f"(we add {self.own_share:.2f} x raw)"
        )


def summarise(values: list[float]) -> Summary | None:
    """Return median and 90th percentile (interpolated between samples); None without samples."""
    if not values:
        return None
    p90 = statistics.quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]
    return Summary(len(values), statistics.median(values), p90, min(values))


def goal_of(measured: Measurements) -> Goal | None:
    """Return the goal's numbers; None without a floor or raw runs to compare with."""
    if not (measured.server and measured.floor and measured.raw):
        return None
    return Goal(
        statistics.median(boot.active for boot in measured.server),
        statistics.median(boot.active for boot in measured.floor),
        statistics.median(run.started for run in measured.raw),
    )
