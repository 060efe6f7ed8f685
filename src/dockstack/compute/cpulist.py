# SPDX-License-Identifier: Apache-2.0
"""Lists of processors as the kernel and the engine write them (kernel: Documentation/core-api/cpu-lists): 0-2,5."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def show(cpus: Iterable[int]) -> str:
    """Write numbers as a list."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in ranges)


def parse(text: str) -> tuple[int, ...]:
    """Read what ``show`` writes; empty for nothing, and for what another hand wrote."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            return ()
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
