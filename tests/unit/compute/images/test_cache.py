# SPDX-License-Identifier: Apache-2.0
"""Which images are ours, and how old the engine says that they are."""

from __future__ import annotations

import pytest

from dockstack.compute.engine.records import EngineImage
from dockstack.compute.images.cache import CachedImage, CacheReport, choose_expired, seconds_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1970-01-01T00:01:00.5Z", 60),
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T02:01:00.123456789+02:00", 60),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_times(said, seconds):
    assert seconds_of(said) == seconds


def image(*tags: str, tagged_at: str = "1970-01-01T00:01:00Z") -> EngineImage:
    return EngineImage("sha256:1", {}, 5 << 20, "amd64", "linux", tags, tagged_at=tagged_at)


def test_ours_are_told_by_their_names():
    ours = CachedImage.of(image("dockstack.local/glance:a", "dockstack.local/checksum:b", "mine:latest"))
    assert ours == CachedImage(
        "sha256:1", ("a",), ("dockstack.local/glance:a", "dockstack.local/checksum:b"), 5 << 20, 60
    )
    assert CachedImage.of(image("mine:latest", "dockstack.local/glance-of-mine:1")) is None


def test_an_image_of_unknown_age_stays():
    unknown = CachedImage.of(image("dockstack.local/glance:a", tagged_at=""))
    assert unknown is not None
    assert choose_expired([unknown], 1e12, 0) == ()


def test_the_report_reads_well():
    assert str(CacheReport(3, 30 << 20, 1, 2, 20 << 20)) == (
        "3 images with 30 MiB, 1 in use, of which 2 with 20 MiB were removed"
    )
