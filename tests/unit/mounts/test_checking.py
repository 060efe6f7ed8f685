# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.mounts import checking

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("table", "state", "other"), [(b"\x20\x00", 0x25, 0x41), (b"\0\0", 0x41, 0x25)], ids=["16", "32"]
)
def test_a_fat_says_whether_it_was_unmounted_where_its_size_has_it(table, state, other):
    head = bytearray(512)
    head[0x16:0x18] = table
    head[other] = 1
    assert not checking.is_dirty_vfat(head)
    head[state] = 1
    assert checking.is_dirty_vfat(head)
