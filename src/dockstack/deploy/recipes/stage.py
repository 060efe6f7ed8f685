# SPDX-License-Identifier: Apache-2.0
"""A stage: a named step of a node with dependencies. Independent stages run side by side (run/apply.py)."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.deploy.supervision.machine import Machine


@dataclass(frozen=True)
class Stage:
    """One step of bringing a node up; idempotent, safe to kill at any moment and run again.

    Attributes:
        name: unique on a node, as in "keystone-database".
        title: what a person reads while it runs, as in "Migrating Keystone's database".
        apply: does the work through the machine; everything that it finds done it leaves alone.
        after: names of stages that must have succeeded before.
        weight: how many slots of ``deploy.parallel`` it takes; 0 for a stage that only waits.
        phase: which line of the progress display it belongs to.
    """

    name: str
    title: str
    apply: Callable[[Machine], None]
    after: tuple[str, ...] = ()
    weight: int = 1
    phase: str = "configure"


def check_graph(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return the stages in an order that respects their dependencies.

    Raises:
        DockstackError: two have one name, one waits for an unknown stage, or they wait for each other.
    """
    listed = list(stages)
    by_name = {stage.name: stage for stage in listed}
    if len(by_name) != len(listed):
        twice = sorted({stage.name for stage in listed if sum(other.name == stage.name for other in listed) > 1})
        raise DockstackError(f"Two stages have one name: {', '.join(twice)}.")
    for stage in listed:
        missing = [name for name in stage.after if name not in by_name]
        if missing:
            raise DockstackError(f"Stage {stage.name} waits for {', '.join(missing)}, which is not there.")
    try:
        order = tuple(TopologicalSorter({stage.name: stage.after for stage in listed}).static_order())
    except CycleError as error:
        raise DockstackError(f"Stages wait for each other: {' > '.join(error.args[1])}.") from error
    return tuple(by_name[name] for name in order)
