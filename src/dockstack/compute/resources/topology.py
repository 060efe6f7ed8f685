# SPDX-License-Identifier: Apache-2.0
"""How the host's processors and memory hang together: NUMA nodes, sockets and hyperthreads."""

from __future__ import annotations

import re
from pathlib import Path

from dockstack.compute.cpulist import parse
from dockstack.compute.model import NumaNode
from dockstack.compute.resources import usage


def read_nodes(cpus: frozenset[int], system: Path = Path("/sys/devices/system")) -> tuple[NumaNode, ...]:
    """Read the NUMA nodes that have processors among those given (kernel: Documentation/ABI/stable/sysfs-devices-node).

    Args:
        cpus: the processors that count.
        system: the kernel's directory.
    """
    nodes = []
    for directory in sorted(system.glob("node/node[0-9]*")):
        own = _read_list(directory / "cpulist") & cpus
        memory = re.search(r"MemTotal:\s+(\d+) kB", (directory / "meminfo").read_text())
        if own and memory:
            number = int(directory.name.removeprefix("node"))
            nodes.append(_node(number, own, int(memory.group(1)) // 1024, system))
    return tuple(nodes) or (_node(0, cpus, usage.read_memory().total_mb, system),)


def _node(number: int, cpus: frozenset[int], memory_mb: int, system: Path) -> NumaNode:
    sockets = {_read(system / f"cpu/cpu{cpu}/topology/physical_package_id") for cpu in cpus}
    threads = {cpu: _read_list(system / f"cpu/cpu{cpu}/topology/thread_siblings_list") & cpus for cpu in cpus}
    text = sockets.pop() if len(sockets) == 1 else ""
    return NumaNode(
        id=number,
        cpus=cpus,
        memory_mb=memory_mb,
        socket=int(text) if text.isdecimal() else None,
        siblings=tuple(sorted({found or frozenset({cpu}) for cpu, found in threads.items()}, key=sorted)),
    )


def _read_list(path: Path) -> frozenset[int]:
    return frozenset(parse(_read(path)))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # virtual machines may have no topology
        return ""
