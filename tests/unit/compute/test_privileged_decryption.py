# SPDX-License-Identifier: Apache-2.0
"""What of an encrypted volume is believed."""

from __future__ import annotations

import os
import struct

import pytest

from dockstack.compute.privileged import decryption

pytestmark = pytest.mark.unit

MIB = 1 << 20


def header(changes: dict[int, int]) -> bytes:
    """Return a header of LUKS 1 as cryptsetup makes it, with other numbers at some places."""
    made = bytearray(4096)
    struct.pack_into(">6sH32s32s32sII", made, 0, b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", 4096, 64)
    struct.pack_into(">I", made, 164, 100_000)
    for slot in range(8):
        state, rounds = (0x00AC71F3, 2_000_000) if slot == 0 else (0x0000DEAD, 0)
        struct.pack_into(">II32sII", made, 208 + slot * 48, state, rounds, b"salt", 8 + slot * 504, 4000)
    for place, number in changes.items():
        struct.pack_into(">I", made, place, number)
    return bytes(made)


@pytest.fixture
def prepared(tmp_path):
    def prepare(start: bytes, size: int = 32 * MIB) -> bytes:
        path = tmp_path / "volume"
        path.write_bytes(start)
        os.truncate(path, size)
        decryption._prepare(str(path), b"key", ("aes-xts-plain64", 512))
        return path.read_bytes()

    return prepare


@pytest.mark.parametrize("changes", [{}, {212: 20_000_000}, {256: 0x00AC71F3, 260: 2_000_000}])
def test_a_header_of_somebody_else_stays_as_it_is(prepared, changes):
    assert prepared(header(changes))[:4096] == header(changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({108: 1 << 30}, "key"),
        ({108: 0}, "key"),
        ({104: 1 << 20}, "room"),
        ({104: 0}, "room"),
        ({104: 504}, "slot 0"),
        ({164: 0xFFFFFFFF}, "rounds"),
        ({212: 0xFFFFFFFF}, "rounds"),
        (
            {208 + slot * 48 + place: value for slot in range(8) for place, value in ((0, 0x00AC71F3), (4, 9_000_000))},
            "r",
        ),
        ({248: 0xFFFFFFFF}, "slot 0"),
        ({248: 0}, "slot 0"),
        ({252: 0xFFFFFFFF}, "slot 0"),
        ({208 + 7 * 48: 1}, "slot 7"),
    ],
)
def test_a_header_that_asks_for_the_boundless_is_refused(prepared, changes, said):
    with pytest.raises(ValueError, match=said):
        prepared(header(changes))


def test_one_that_the_volume_has_no_room_for_is_refused(prepared):
    with pytest.raises(ValueError, match="not whole"):
        prepared(header({})[:512], 512)
    with pytest.raises(ValueError, match="room"):
        prepared(header({}), MIB)
