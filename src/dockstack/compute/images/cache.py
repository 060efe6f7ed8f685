# SPDX-License-Identifier: Apache-2.0
"""Which of the engine's images are ours, since when nobody needs them, and which of them may go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dockstack.names import IMAGE_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dockstack.compute.engine import EngineImage

GLANCE_REPOSITORY = f"{IMAGE_DOMAIN}/glance"
CHECKSUM_REPOSITORY = f"{IMAGE_DOMAIN}/checksum"
ACCEPTED_REPOSITORY = f"{IMAGE_DOMAIN}/accepted"  # by its place in a registry, or by whose signature it has
REPOSITORIES = (GLANCE_REPOSITORY, CHECKSUM_REPOSITORY, ACCEPTED_REPOSITORY)

# A server that is being built is in no listing yet, so an image is left alone that long whatever else is wanted.
GRACE_SECONDS = 600

_FRACTION = re.compile(r"\.\d+")


@dataclass(frozen=True)
class CachedImage:
    """An image of Glance's that the engine has.

    Attributes:
        engine_id: the engine's id.
        glance_ids: the Glance images with this very content.
        tags: its names that are ours; others' are none of our business.
        size: bytes, unpacked.
        used_at: when it was last fetched, asked for or seen in use, in seconds since the epoch; None if not known.
    """

    engine_id: str
    glance_ids: tuple[str, ...]
    tags: tuple[str, ...]
    size: int
    used_at: float | None

    @classmethod
    def of(cls, image: EngineImage) -> CachedImage | None:
        """Read an image of the engine; None if it is none of ours."""
        tags = tuple(tag for tag in image.tags if tag.rpartition(":")[0] in REPOSITORIES)
        if not tags:
            return None
        ids = tuple(tag.rpartition(":")[2] for tag in tags if tag.startswith(f"{GLANCE_REPOSITORY}:"))
        return cls(image.id, ids, tags, image.size, seconds_of(image.tagged_at))


@dataclass(frozen=True)
class CacheReport:
    """What a pass over the cache came to."""

    images: int  # before the pass
    bytes: int
    used: int  # of the images
    removed: int
    freed_bytes: int

    def __str__(self) -> str:
        freed = f", of which {self.removed} with {self.freed_bytes >> 20} MiB were removed" if self.removed else ""
        return f"{self.images} images with {self.bytes >> 20} MiB, {self.used} in use{freed}"


def is_used(image: CachedImage, containers_images: Collection[str], servers_images: Collection[str]) -> bool:
    """Whether somebody needs an image.

    Args:
        image: which.
        containers_images: the engine's ids of the images that any container was made from, also a foreign one.
        servers_images: the Glance ids of the images that Nova's servers here name.
    """
    return image.engine_id in containers_images or any(found in servers_images for found in image.glance_ids)


def choose_expired(images: Iterable[CachedImage], now: float, minimum_age: float) -> tuple[CachedImage, ...]:
    """Choose from unused images those that were unused for long enough; one of unknown age stays.

    Args:
        images: unused ones.
        now: seconds since the epoch.
        minimum_age: seconds.
    """
    age = max(minimum_age, GRACE_SECONDS)
    return tuple(image for image in images if image.used_at is not None and now - image.used_at >= age)


def seconds_of(moment: str) -> float | None:
    """Read the engine's RFC 3339, whose nanoseconds Python does not read; None for its "never", the year 1."""
    try:
        read = datetime.fromisoformat(_FRACTION.sub("", moment))
    except ValueError:
        return None
    return read.timestamp() if read.year > 1 and read.tzinfo else None
