# SPDX-License-Identifier: Apache-2.0
"""Which parts of a file hold data: of a sparse file, nothing else is read, copied or sent.

A server may say ``truncate -s 300G`` at no cost. Whoever reads such a file to its end reads zeros for minutes.
"""

from __future__ import annotations

import errno
import os

Extents = list[tuple[int, int]]  # offset and length of each part that holds data, in their order


LEAST = 1 << 20  # bytes of holes that make a file a sparse one; fewer zeros cost nobody anything
_NEAR = 64 << 10  # bytes between two parts that are taken for one: a database's file may have a hole a page


def find_extents(descriptor: int) -> Extents | None:
    """Return what a sparse file holds; None for any other, which is data from its beginning to its end."""
    found = os.fstat(descriptor)
    if found.st_size - found.st_blocks * 512 < LEAST:
        return None
    extents: Extents = []
    position = 0
    while position < found.st_size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # no more data
        position = min(os.lseek(descriptor, start, os.SEEK_HOLE), found.st_size)
        if extents and start - sum(extents[-1]) < _NEAR:
            start = extents.pop()[0]
        if position > start:
            extents.append((start, position - start))
    return extents


def stored_bytes(extents: Extents) -> int:
    """Return how many bytes the parts have together."""
    return sum(length for _, length in extents)


def parse(extents: object, size: int, stored: int) -> Extents:
    """Take what a stranger says of a sparse file.

    Args:
        extents: as from JSON.
        size: the file's, with its holes.
        stored: its bytes without them.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        parts = [(int(start), int(length)) for start, length in extents]  # type: ignore[attr-defined]
    except (TypeError, OverflowError) as error:
        raise ValueError("the parts of a sparse file are no pairs of numbers") from error
    ends = [0, *(start + length for start, length in parts)]
    ordered = all(length > 0 and start >= end for (start, length), end in zip(parts, ends, strict=False))
    if not ordered or ends[-1] > size or stored_bytes(parts) != stored:
        raise ValueError("the parts of a sparse file do not make it")
    return parts


def copy(source: int, target: int, extents: Extents) -> None:
    """Copy parts of a file to the same places of another one; what vanishes meanwhile is left."""
    for start, length in extents:
        copy_part(source, start, target, start, length)


def copy_part(source: int, position: int, target: int, place: int, length: int) -> None:
    """Copy a part of a file to a place in another one, as a reference where the file system can; stop at its end."""
    while length and (count := os.copy_file_range(source, target, length, position, place)):
        position, place, length = position + count, place + count, length - count
