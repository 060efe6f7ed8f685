# SPDX-License-Identifier: Apache-2.0
"""The maps of sparse files in tar archives (the pax form 1.0), read in a bounded amount of memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockstack.oci.tar_stream import BLOCK, MAX_HEADER, malformed

if TYPE_CHECKING:
    from dockstack.oci.tar_stream import TarStream

_PAX_MAP_COUNT = re.compile(rb"([0-9]{1,18})\n")
_DIGITS = 18  # of a number that is less than 2 ** 63


def map_size(stream: TarStream, stored: int, size: int) -> int:
    """Pass over the map in front of a sparse file's data in the pax form, and return the bytes that it takes.

    Args:
        stream: the archive, at the map.
        stored: bytes of map and data.
        size: bytes of the file when it is unpacked.
    """
    table, lines, wanted = bytearray(), 0, 1
    while lines < wanted:
        block = stream.read(BLOCK)
        table += block
        lines += block.count(b"\n")
        if len(block) < BLOCK or len(table) > min(stored, MAX_HEADER):
            raise malformed("map of a sparse file")
        if wanted == 1 and (first := _PAX_MAP_COUNT.match(table)):
            wanted += 2 * int(first[1])
    words = bytes(table).split(b"\n", wanted)[:wanted]
    if not all(word.isdigit() and len(word) <= _DIGITS for word in words):
        raise malformed("map of a sparse file")
    numbers = [int(word) for word in words[1:]]
    end = total = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        if start < end or start + length > size:
            raise malformed("map of a sparse file")
        end, total = start + length, total + length
    if total != stored - len(table):
        raise malformed("map of a sparse file")
    return len(table)
