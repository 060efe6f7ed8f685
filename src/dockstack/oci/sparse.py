# SPDX-License-Identifier: Apache-2.0
"""The maps of sparse files in tar archives, read in a bounded amount of memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dockstack.oci.documents import ImageRejected
from dockstack.oci.tar_stream import BLOCK, DAMAGED, MAX_HEADER, ends_early, malformed, number

if TYPE_CHECKING:
    from dockstack.oci.tar_stream import TarStream

_PAX_MAP_COUNT = re.compile(rb"([0-9]{1,18})\n")
_DIGITS = 18  # of a number that is less than 2 ** 63


def gnu_map_size(stream: TarStream, header: bytes, stored: int) -> int:
    """Pass over the map of a sparse file as GNU tar writes it, and return the size that the engine writes out."""
    if header[257:265] != b"ustar  \0":
        raise malformed("sparse file")
    size = number(header[483:495])
    end = total = blocks = 0
    table, more = header[386:482], header[482]
    while True:
        for place in range(0, len(table), 24):
            if not table[place] or not table[place + 12]:
                break
            start, length = number(table[place : place + 12]), number(table[place + 12 : place + 24])
            if start < end or start + length > size:
                raise malformed("map of a sparse file")
            end, total = start + length, total + length
        if not more:
            break
        blocks += 1
        if blocks * BLOCK > MAX_HEADER:
            raise ImageRejected("The image has a sparse file with a map of more than 1 MiB.", DAMAGED)
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            raise ends_early()
        table, more = block[:504], block[504]
    if total != stored:
        raise malformed("map of a sparse file")
    return size


def pax_map_size(stream: TarStream, stored: int, size: int) -> int:
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
