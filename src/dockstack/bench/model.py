# SPDX-License-Identifier: Apache-2.0
"""Samples, and what follows from them. Fields are called as in results files: floor and raw for the two baselines."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

PREFIX = "dockstack-bench-"
GOAL_FACTOR = 1.25  # a quarter more: for the budget of floor and engine together, for the goal of the engine alone
GOAL_BURST = 0.95  # of the fake driver's rate


@dataclass(frozen=True)
class Boot:
    """The times of one server, in seconds."""

    answered: float  # POST to its answer
    active: float  # POST to ACTIVE
    gone: float  # DELETE to 404


@dataclass(frozen=True)
class EngineRun:
    """The times of one container without OpenStack, in seconds."""

    started: float  # create and start
    removed: float  # rm -f


@dataclass(frozen=True)
class Burst:
    """Many servers requested at once."""

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
        floor: servers of the control-plane baseline, interleaved with the others; empty if it could not be run.
        floor_reason: why there are none.
        raw: containers of the engine baseline.
    """

    server: tuple[Boot, ...]
    raw: tuple[EngineRun, ...] = ()
    floor: tuple[Boot, ...] = ()
    burst: Burst | None = None
    floor_burst: Burst | None = None
    floor_reason: str = ""
    raw_reason: str = ""
    machine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What a boot may take: the budget, and the stricter goal.

    The budget is a quarter more than the fake driver's median boot and raw create+start together. The goal grants that
    quarter on the engine's part alone: nothing for the work that a plugged port makes for Neutron.
    """

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
    def budget(self) -> float:
        """The slowest median that is within the budget."""
        return GOAL_FACTOR * (self.floor + self.raw)

    @property
    def within_budget(self) -> bool:
        """Whether the budget is kept."""
        return self.boot <= self.budget

    @property
    def own_share(self) -> float:
        """What we add to the floor, as a multiple of the engine's own create+start."""
        return (self.boot - self.floor) / self.raw if self.raw else 0.0

    def describe(self) -> tuple[str, str]:
        """Say each in one line."""
        budget = f"{self.budget:.2f} s = {GOAL_FACTOR} x (floor {self.floor:.2f} + raw {self.raw:.2f})"
        limit = f"{self.limit:.2f} s = floor {self.floor:.2f} + {GOAL_FACTOR} x raw {self.raw:.2f}"
        return (
            f"budget {verdict(met=self.within_budget)}: median boot {self.boot:.2f} s, limit {budget}",
            f"goal {verdict(met=self.met)}: limit {limit} (we add {self.own_share:.2f} x raw)",
        )


def verdict(*, met: bool) -> str:
    """Return a limit's verdict; upper case draws the eye to one that is missed."""
    return "met" if met else "MISSED"


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
