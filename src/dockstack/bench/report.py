# SPDX-License-Identifier: Apache-2.0
"""A table and a document of what `bench boot` measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from dockstack.bench.model import GOAL_BURST, GOAL_FACTOR, Measurements, Summary, goal_of, summarise, verdict

SERVER, FLOOR, RAW = "docker server", "fake driver (floor)", "docker run --network none"


def series_of(measured: Measurements) -> dict[str, dict[str, list[float]]]:
    """Return values by step, then by kind."""
    boots = {SERVER: measured.server, FLOOR: measured.floor}
    steps: dict[str, dict[str, list[float]]] = {
        title: {kind: [getattr(boot, name) for boot in series] for kind, series in boots.items()}
        for title, name in (
            ("POST answered", "answered"),
            ("boot: POST to ACTIVE", "active"),
            ("DELETE to gone", "gone"),
        )
    }
    steps["boot: POST to ACTIVE"][RAW] = [run.started for run in measured.raw]
    steps["DELETE to gone"][RAW] = [run.removed for run in measured.raw]
    return steps


def table_of(measured: Measurements) -> Table:
    """Build the table: a row for each step and kind, with the ratio to the floor."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step")
    table.add_column("of")
    for title in ("n", "median s", "p90 s", "x floor", "x raw"):
        table.add_column(title, justify="right")
    for step, kinds in series_of(measured).items():
        floor, raw = summarise(kinds[FLOOR]), summarise(kinds.get(RAW, []))
        for kind, values in kinds.items():
            if summary := summarise(values):
                table.add_row(step, kind, *cells(summary, floor, raw))
    for kind, burst in ((SERVER, measured.burst), (FLOOR, measured.floor_burst)):
        if burst:
            rate = f"{burst.rate:.2f}/s"
            table.add_row(
                f"burst, {len(burst.errors)} errors", kind, str(burst.asked), f"{burst.seconds:.1f}", "", rate
            )
    return table


def cells(summary: Summary, floor: Summary | None, raw: Summary | None) -> tuple[str, ...]:
    """Format a summary and its ratios."""
    return (
        str(summary.n),
        f"{summary.median:.2f}",
        f"{summary.p90:.2f}",
        f"{summary.median / floor.median:.2f}" if floor else "",
        f"{summary.median / raw.median:.2f}" if raw else "",
    )


def notes_of(measured: Measurements) -> list[str]:
    """Say what the table does not: the goal, what is missing, errors."""
    notes: list[str] = []
    if goal := goal_of(measured):
        notes += goal.describe()
    if measured.burst and measured.floor_burst and measured.floor_burst.rate:
        share = measured.burst.rate / measured.floor_burst.rate
        notes.append(
            f"goal {verdict(met=share >= GOAL_BURST)}: the burst has {share:.0%} of the floor's rate, "
            f"at least {GOAL_BURST:.0%} is wanted"
        )
    if measured.floor_reason:
        notes.append(f"no floor: {measured.floor_reason}")
    if measured.raw_reason:
        notes.append(f"no raw runs: {measured.raw_reason}")
    for burst in (measured.burst, measured.floor_burst):
        notes += [f"burst: {error}" for error in sorted(set(burst.errors))] if burst else []
    return notes


def document_of(measured: Measurements) -> dict[str, Any]:
    """Build the document for machines: every sample, the summaries, the goal, the machine."""
    document: dict[str, Any] = {"machine": measured.machine, "samples": {}, "summary": {}, "notes": notes_of(measured)}
    for step, kinds in series_of(measured).items():
        document["samples"][step] = {kind: [round(each, 4) for each in values] for kind, values in kinds.items()}
        document["summary"][step] = {
            kind: asdict(summary) for kind, values in kinds.items() if (summary := summarise(values))
        }
    for name, burst in (("burst", measured.burst), ("floor_burst", measured.floor_burst)):
        document[name] = asdict(burst) | {"rate": burst.rate} if burst else None
    if goal := goal_of(measured):
        document["goal"] = asdict(goal) | {
            "limit": goal.limit,
            "met": goal.met,
            "budget": goal.budget,
            "within_budget": goal.within_budget,
            "factor": GOAL_FACTOR,
        }
    return document
