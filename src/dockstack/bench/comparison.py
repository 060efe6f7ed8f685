# SPDX-License-Identifier: Apache-2.0
"""``bench compare``: what became slower or heavier between two runs of one benchmark, beyond their noise.

A machine is not as fast today as it was yesterday. Where both runs have timed the engine alone (``docker run``), which
is none of our work, all that is counted in seconds is compared as if that had not changed.
"""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dockstack.bench.report import RAW
from dockstack.errors import DockstackError
from dockstack.terminal import styled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LEAST = 0.05  # of the old value: what is below is nothing that anybody would notice
ALONE = 0.15  # of the old value: the noise of what was measured once
SURE = 3.0  # standard errors: chance alone goes beyond that once in a few hundred comparisons
MEDIANS_ERROR = 1.2533 * 1.4826  # of a median, as a multiple of MAD / sqrt(n), where samples are spread normally
HIGHER_IS_BETTER = ("servers a second",)
BOOT = "boot: POST to ACTIVE"
FACTS = ("cpu", "cores", "kernel", "system")
_BASELINE = re.compile(r"(^|, )raw_")
COLOURS = {"regression": "red", "better": "green"}


@dataclass(frozen=True)
class Series:
    """One figure of a run: the median of its samples, and how uncertain that is as a share of it."""

    median: float
    noise: float
    n: int


@dataclass(frozen=True)
class Change:
    """One figure in both runs.

    Attributes:
        name: what was measured.
        old: the median before.
        new: the median after.
        worse: by how much of the old value it is worse, the machine's own change taken out; negative is better.
        noise: the share from which on a change counts.
    """

    name: str
    old: float
    new: float
    worse: float
    noise: float

    @property
    def verdict(self) -> str:
        """What to think of it."""
        if abs(self.worse) <= self.noise:
            return ""
        return "regression" if self.worse > 0 else "better"


@dataclass(frozen=True)
class Comparison:
    """Two runs of one benchmark.

    Attributes:
        changes: the figures that both have.
        machine: how many times as long the engine alone took in the new run; 1.0 where it was not timed.
        notes: what else to know.
    """

    changes: tuple[Change, ...]
    machine: float
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The figures that are worse by more than the noise."""
        return tuple(change for change in self.changes if change.verdict == "regression")


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Compare two documents that the same benchmark wrote.

    Raises:
        DockstackError: they have no figure in common.
    """
    before, after = dict(figures(old)), dict(figures(new))
    engine = f"{BOOT}, {RAW}"
    machine, uncertain = 1.0, 0.0
    measured = engine in before and engine in after
    if measured:
        machine = after[engine].median / before[engine].median
        uncertain = math.hypot(before[engine].noise, after[engine].noise)
    common = [name for name in before if name in after and not _is_baseline(name) and before[name].median]
    if not common:
        raise DockstackError(
            "The two files have no figure in common.", "Name two documents that one benchmark wrote, as boot.json."
        )
    changes = tuple(_change(name, before[name], after[name], machine, uncertain) for name in common)
    return Comparison(changes, machine, tuple(_notes(old, new, machine, measured=measured)))


def figures(document: Mapping[str, Any]) -> Iterator[tuple[str, Series]]:
    """Yield each figure of a document of `bench boot`, `actions`, `density`, `images`, `registry` or `up`."""
    samples = document.get("samples", {})
    if isinstance(samples, dict):
        for step, kinds in samples.items():
            yield from ((f"{step}, {kind}", _series(values)) for kind, values in kinds.items() if values)
    else:
        yield from _of_rows(samples, document.get("size"))
    for name in ("burst", "floor_burst"):
        if burst := document.get(name):
            yield f"{name.replace('_', ' ')}, {HIGHER_IS_BETTER[0]}", _series([burst["rate"]])
    for run in document.get("runs", ()):
        yield f"{run['name']}, seconds", _series([run["seconds"]])
    if total := document.get("idle_memory_total_mib"):
        yield "idle memory, MiB", _series([total])
    for level in document.get("levels", ()):
        yield from (
            (f"{level['servers']} servers, {key}", _series([value])) for key, value in level.items() if key != "servers"
        )


def _is_baseline(name: str) -> bool:
    """Tell whether a figure is of what others do without us, beside which ours was measured."""
    return name.endswith(RAW) or _BASELINE.search(name) is not None


def _of_rows(rows: Sequence[Mapping[str, Any]], one_size: int | None) -> Iterator[tuple[str, Series]]:
    """Yield the figures of rows that tell seconds by name.

    Each row has its own size in what `bench images` writes, all have one in what `bench registry` writes.
    """
    for size in dict.fromkeys(row.get("size", one_size) for row in rows):
        own = [row for row in rows if row.get("size", one_size) == size]
        for key in own[0]:
            values = [row[key] for row in own if isinstance(row.get(key), int | float)]
            if key != "size" and values:
                yield f"{key} of {size} MiB", _series(values)


def _series(values: Sequence[float]) -> Series:
    median = statistics.median(values)
    if len(values) == 1 or not median:
        return Series(median, ALONE / SURE, len(values))
    spread = statistics.median(abs(value - median) for value in values)
    return Series(median, MEDIANS_ERROR * spread / math.sqrt(len(values)) / median, len(values))


def _change(name: str, old: Series, new: Series, machine: float, uncertain: float) -> Change:
    higher = name.endswith(HIGHER_IS_BETTER)
    timed = not any(word in name for word in ("memory", "_mib", "cpu"))
    factor = (1 / machine if higher else machine) if timed else 1.0
    grown = new.median / (old.median * factor) - 1
    noise = max(LEAST, SURE * math.hypot(old.noise, new.noise, uncertain if timed else 0.0))
    return Change(name, old.median, new.median, -grown if higher else grown, noise)


def _notes(old: Mapping[str, Any], new: Mapping[str, Any], machine: float, *, measured: bool) -> Iterator[str]:
    if measured:
        yield f"The engine alone took {machine:.2f} x as long as before; seconds are compared as if it had not."
    else:
        yield "The engine alone was not timed in both, so a slower machine looks like a regression."
    for fact in FACTS:
        before, after = (document.get("machine", {}).get(fact) for document in (old, new))
        if before != after:
            yield f"Not the same machine: {fact} was {before}, and is {after}."


def table_of(comparison: Comparison) -> Table:
    """Build the table: the worst first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure")
    for title in ("old", "new", "worse by", "noise"):
        table.add_column(title, justify="right")
    table.add_column("")
    for change in sorted(comparison.changes, key=lambda each: -each.worse):
        values = (f"{change.old:.2f}", f"{change.new:.2f}", f"{change.worse:+.0%}", f"{change.noise:.0%}")
        verdict = change.verdict
        table.add_row(change.name, *values, styled((verdict, COLOURS[verdict])) if verdict else "")
    return table


def document_of(comparison: Comparison) -> dict[str, Any]:
    """Build the document for machines."""
    return {
        "changes": [asdict(change) | {"verdict": change.verdict} for change in comparison.changes],
        "machine": comparison.machine,
        "notes": list(comparison.notes),
        "regressions": [change.name for change in comparison.regressions],
    }
