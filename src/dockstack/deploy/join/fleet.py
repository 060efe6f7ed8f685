# SPDX-License-Identifier: Apache-2.0
"""The same work on many nodes, some at a time; what breaks on one stops only that one."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, TypeVar

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.deploy.wanted.inventory import Node

Result = TypeVar("Result")


def each(
    nodes: Iterable[Node],
    forks: int,
    work: Callable[[Node], Result],
    tell: Callable[[Node, Result | DockstackError], None],
) -> dict[str, Result | DockstackError]:
    """Do some work on each node, at most ``forks`` at a time, and return what came of it by the nodes' names.

    Args:
        nodes: the nodes; the answer has their order.
        forks: how many at a time.
        work: the work; it runs in a thread of its own.
        tell: told of each node as soon as it is through, in this thread.
    """
    waiting = list(nodes)
    found: dict[str, Result | DockstackError] = {}
    pool = ThreadPoolExecutor(max_workers=forks)
    try:
        running = {pool.submit(_caught, work, node): node for node in waiting}
        for future in as_completed(running):
            node = running[future]
            found[node.name] = future.result()
            tell(node, found[node.name])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return {node.name: found[node.name] for node in waiting}


def _caught(work: Callable[[Node], Result], node: Node) -> Result | DockstackError:
    try:
        return work(node)
    except DockstackError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the top of a thread: the others go on
        where = "".join(traceback.format_exc(limit=-4))
        cure = "This is a fault in dockstack; the lines above belong into a report."
        return DockstackError(f"{node.name}: {type(error).__name__}: {error}", cure, where)
