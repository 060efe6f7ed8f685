# SPDX-License-Identifier: Apache-2.0
"""A volume that is to become a root file system is told from one that holds somebody's data."""

from __future__ import annotations

import hashlib
import os

import pytest

from dockstack.compute.privileged import boot_volumes

pytestmark = pytest.mark.unit

IMAGE = b"an image of a container" * 1000


@pytest.mark.parametrize(
    ("on_it", "checksum", "holds"),
    [
        (IMAGE + bytes(4096), hashlib.sha512(IMAGE).hexdigest(), True),
        (IMAGE + b"and more", hashlib.md5(IMAGE, usedforsecurity=False).hexdigest(), True),
        (b"A" + IMAGE[1:], hashlib.sha512(IMAGE).hexdigest(), False),
        (IMAGE[:-1], hashlib.sha512(IMAGE).hexdigest(), False),
        (IMAGE, "", False),
        (IMAGE, "unknown", False),
    ],
    ids=["sha512", "md5", "written-to", "shorter", "no-checksum", "no-such-checksum"],
)
def test_only_exactly_the_bytes_of_the_image_may_give_way(tmp_path, on_it, checksum, holds):
    (tmp_path / "volume").write_bytes(on_it)
    device = os.open(tmp_path / "volume", os.O_RDONLY)
    try:
        assert boot_volumes._holds(device, len(IMAGE), checksum) is holds
    finally:
        os.close(device)
