# SPDX-License-Identifier: Apache-2.0
"""Pictures of what was measured."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path

import matplotlib as mpl

from dockstack.bench import report
from dockstack.bench.actions import FLOOR, SERVER, Latencies
from dockstack.bench.density import Densities
from dockstack.bench.images import Throughputs
from dockstack.bench.model import Measurements, goal_of, summarise
from dockstack.bench.registry import PROGRAM, Transfers
from dockstack.bench.volumes import Measured

mpl.use("Agg")  # no display; before pyplot is imported
from matplotlib import pyplot as plt


@singledispatch
def draw(measured: object, path: Path) -> None:
    """Draw what a benchmark measured into a PNG.

    Raises:
        TypeError: there is no picture of it.
    """
    raise TypeError(f"no picture of {type(measured).__name__} to write to {path}")


@draw.register
def _draw_actions(measured: Latencies, path: Path) -> None:
    """Draw a pair of bars for each action: medians, with the 90th percentile as a whisker."""
    names = [name for name, kinds in measured.samples.items() if kinds[SERVER]]
    figure, panel = plt.subplots(figsize=(9, 0.45 * len(names) + 1.6), layout="constrained")
    for offset, kind in ((-0.2, SERVER), (0.2, FLOOR)):
        found = [(place, summarise(measured.samples[name][kind])) for place, name in enumerate(names)]
        shown = [(place, summary) for place, summary in found if summary]
        panel.barh(
            [place + offset for place, _ in shown],
            [summary.median for _, summary in shown],
            height=0.36,
            xerr=[[0.0] * len(shown), [summary.p90 - summary.median for _, summary in shown]],
            label=kind,
        )
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set_xlabel("seconds, median; whisker: 90th percentile")
    panel.legend()
    panel.set_title(f"dockstack bench actions: {measured.machine.get('cores')} cores")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@draw.register
def _draw_registry(measured: Transfers, path: Path) -> None:
    """Draw a pair of bars for push and pull: MiB a second."""
    names = ("push", "pull")
    figure, panel = plt.subplots(figsize=(8, 2.8), layout="constrained")
    for offset, prefix, label in ((-0.2, "", "dockstack's registry"), (0.2, "raw_", PROGRAM)):
        rates = [measured.rate(f"{prefix}{name}") for name in names]
        panel.barh([place + offset for place in range(len(names))], rates, height=0.36, label=label)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set_xlabel("MiB a second, median")
    panel.legend()
    panel.set_title(f"dockstack bench registry: {measured.size} MiB, {measured.machine.get('cores')} cores")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@draw.register
def _draw_volumes(measured: Measured, path: Path) -> None:
    """Draw what each target writes a second, and what a sync takes there."""
    targets = list(measured.writes)
    figure, (rate, sync) = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained", sharey=True)
    rate.barh(range(len(targets)), [measured.rate(name) for name in targets], height=0.5)
    rate.set_yticks(range(len(targets)), targets)
    rate.invert_yaxis()
    rate.set_xlabel(f"MiB a second, {measured.size} MiB in pieces of 1 MiB, median")
    sync.barh(range(len(targets)), [measured.sync(name) for name in targets], height=0.5)
    sync.set_xlabel("ms for 4 KiB and their sync, median")
    figure.suptitle(f"dockstack bench volumes: {measured.machine.get('cores')} cores")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@draw.register
def _draw_images(measured: Throughputs, path: Path) -> None:
    """Draw a pair of bars for each way and size: MiB a second."""
    ways = measured.ways()
    places = range(len(ways))
    figure, panel = plt.subplots(figsize=(8, 0.6 * len(ways) + 1.6), layout="constrained")
    panel.barh([place - 0.2 for place in places], [way.rate for way in ways], height=0.36, label="dockstack")
    panel.barh([place + 0.2 for place in places], [way.raw_rate for way in ways], height=0.36, label="the engine alone")
    panel.set_yticks(places, [f"{way.name}, {way.size:.0f} MiB" for way in ways])
    panel.invert_yaxis()
    panel.set_xlabel("MiB of archive a second, by median seconds")
    panel.legend()
    panel.set_title(f"dockstack bench images: {measured.machine.get('cores')} cores")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@draw.register
def _draw_density(measured: Densities, path: Path) -> None:
    """Draw three curves over the number of servers."""
    counts = [level.servers for level in measured.levels]
    figure, (memory, boot, processor) = plt.subplots(1, 3, figsize=(12.6, 4), layout="constrained")
    memory.plot(counts, [level.memory_mib for level in measured.levels], "o-", label="server")
    memory.plot(counts, [level.raw_memory_mib for level in measured.levels], "s--", label="plain container")
    memory.set_ylabel("MiB each")
    memory.legend()
    boot.plot(counts, [level.boot_seconds for level in measured.levels], "o-")
    boot.set_ylabel("seconds to boot one more")
    processor.plot(counts, [100 * level.compute_cpu for level in measured.levels], "o-", label="nova-compute")
    processor.plot(counts, [100 * level.engine_cpu for level in measured.levels], "s--", label="engine")
    processor.set_ylabel("% of a core, idle")
    processor.legend()
    for panel in (memory, boot, processor):
        panel.set_xlabel("servers")
        panel.set_ylim(0, 1.1 * panel.dataLim.y1)
    figure.suptitle(f"dockstack bench density: {measured.machine.get('cores')} cores")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@draw.register
def _draw_boot(measured: Measurements, path: Path) -> None:
    """Draw a box for each kind and step over its samples; the goal as a line."""
    steps = report.series_of(measured)
    figure, panels = plt.subplots(1, len(steps), figsize=(4.2 * len(steps), 4.2), layout="constrained")
    for panel, (step, kinds) in zip(panels, steps.items(), strict=True):
        shown = {kind: values for kind, values in kinds.items() if values}
        panel.boxplot(list(shown.values()), widths=0.5, showfliers=False)
        for place, values in enumerate(shown.values(), start=1):
            panel.plot([place] * len(values), values, "o", alpha=0.35, markersize=4)
        panel.set_xticks(range(1, len(shown) + 1), [kind.replace(" ", "\n", 1) for kind in shown])
        panel.set_title(step)
        panel.set_ylabel("seconds")
        panel.set_ylim(bottom=0)
        if step.startswith("boot") and (goal := goal_of(measured)):
            panel.axhline(goal.limit, linestyle="--", color="grey")
            panel.annotate(f"goal: at most {goal.limit:.2f} s", (0.55, goal.limit), va="bottom", color="grey")
    machine = measured.machine
    figure.suptitle(
        f"dockstack bench boot: n={len(measured.server)}, {machine.get('cores')} cores, {machine.get('measured_at')}"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
