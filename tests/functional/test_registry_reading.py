# SPDX-License-Identifier: Apache-2.0
"""How the registry reads blobs for those who pull."""

from __future__ import annotations

import errno
import os
import random

import anyio
import pytest

from dockstack.registry import exchange
from dockstack.registry.blobs import CHUNK

pytestmark = pytest.mark.functional


@pytest.mark.parametrize("refusal", [None, BlockingIOError, OSError(errno.EOPNOTSUPP, "not on this file system")])
def test_a_file_is_read_whether_the_kernel_has_it_at_hand_or_not(tmp_path, monkeypatch, refusal):
    content = random.Random(7).randbytes(3 * CHUNK + 5)  # noqa: S311 - any bytes
    path = tmp_path / "blob"
    path.write_bytes(content)

    def refuse(*_arguments):
        raise refusal

    async def read(start, size):
        return b"".join([bytes(data) async for data in exchange._read(path, start, size)])

    if refusal:
        monkeypatch.setattr(os, "preadv", refuse)
    assert anyio.run(read, 0, len(content)) == content
    assert anyio.run(read, CHUNK - 1, CHUNK + 2) == content[CHUNK - 1 : 2 * CHUNK + 1]
    assert anyio.run(read, 0, len(content) + 9) == content, "it is shorter than it was"
