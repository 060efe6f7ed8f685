# SPDX-License-Identifier: Apache-2.0
"""Calls to the engine about images and root file systems, one method each."""

from __future__ import annotations

import math
import re
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dockstack.compute.engine import faults
from dockstack.compute.engine.connection import Connection
from dockstack.compute.engine.faults import EngineError, EngineTooSlow, EngineUnavailable, NotFound, translated
from dockstack.compute.engine.records import EngineImage
from dockstack.compute.engine.streams import guarded
from dockstack.names import SNAPSHOTTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")
_LOAD_SILENCE = 900  # seconds between two signs of life while a large layer unpacks on a slow disk


_Item = TypeVar("_Item")


class Images(Connection):
    """What an engine does with images."""

    def image(self, reference: str) -> EngineImage | None:
        """Describe an image, by id or name; None if there is none."""
        try:
            with translated(f"looking at image {reference}"):
                entry = self._client().inspect_image(reference)
        except NotFound:
            return None
        config = dict(entry.get("Config") or {})
        return EngineImage(
            id=entry["Id"],
            config=config,
            size=entry["Size"],
            architecture=entry["Architecture"],
            os=entry["Os"],
            tags=tuple(entry.get("RepoTags") or ()),
            labels=dict(config.get("Labels") or {}),
            tagged_at=str((entry.get("Metadata") or {}).get("LastTagTime") or ""),
        )

    def images(self, *, label: str | None = None, reference: str | None = None) -> tuple[EngineImage, ...]:
        """List images, by label or by a pattern of names; ``config``, ``architecture`` and ``os`` stay empty."""
        filters = {key: value for key, value in (("label", label), ("reference", reference)) if value}
        with translated("listing images"):
            entries = self._client().images(filters=filters)
        return tuple(
            EngineImage(
                id=entry["Id"],
                config={},
                size=entry["Size"],
                architecture="",
                os="",
                tags=tuple(entry.get("RepoTags") or ()),
                labels=dict(entry.get("Labels") or {}),
            )
            for entry in entries
        )

    def layer_stacks(self, deadline: float) -> frozenset[tuple[str, ...]]:
        """Return the layers of each image here, the lowest first; nothing where they serve no other image.

        So it is where containerd keeps images: it has layers as they came. An image that the engine cannot tell of is
        left out, and all that are not looked at by the deadline, on the monotonic clock.
        """
        with translated("asking for its images' layers"):
            client = self._client()
            if SNAPSHOTTER in (client.info().get("DriverStatus") or ()):
                return frozenset()
            ids = {entry["Id"] for entry in client.images()}
        stacks = set()
        for image_id in ids:
            if time.monotonic() > deadline:
                break
            with suppress(EngineError), translated(f"looking at image {image_id}"):  # gone by now, or broken
                stacks.add(tuple((client.inspect_image(image_id).get("RootFS") or {}).get("Layers") or ()))
        return frozenset(stacks)

    def used_images(self) -> frozenset[str]:
        """Return the ids of the images that any container, ours or not, was made from."""
        with translated("listing containers"):
            return frozenset(entry["ImageID"] for entry in self._client().containers(all=True))

    def load_image(self, chunks: Iterable[bytes], deadline: float | None = None) -> tuple[str, ...]:
        """Load a docker-save archive and return the ids of its images.

        The engine answers 200 before it has looked at the archive; what went wrong comes in the stream.

        Args:
            chunks: the archive.
            deadline: until when the engine must be done, on the monotonic clock; None for as long as it says something.

        Raises:
            ImageUnusable: the archive is broken.
            EngineFull: the engine's disk is full.
            EngineTooSlow: the deadline has passed.
        """
        action = "loading an image"
        loaded: list[str] = []
        try:
            with closing(self._connect(_silence(deadline))) as client, translated(action):
                for line in _in_time(client.load_image(_in_time(chunks, deadline)), deadline):
                    if "error" in line:
                        raise faults.of_stream(action, str(line["error"]))
                    loaded += _LOADED.findall(str(line.get("stream", "")))
        except EngineUnavailable as error:
            _silence(deadline)  # was it silent, or had it no time left?
            raise error from None
        found = [self.image(name) for name in loaded]
        if not found:
            raise faults.of_stream(action, "the archive holds no image")
        return tuple(image.id for image in found if image is not None)

    def save_image(self, reference: str) -> Iterator[bytes]:
        """Stream an image as a docker-save archive."""
        action = f"saving image {reference}"
        client = self._connect(_LOAD_SILENCE)
        with translated(action):
            chunks = client.get_image(reference)
        return guarded(action, chunks)

    def process(self, name: str) -> dict[str, Any]:
        """Return how a container runs, as the specification writes an image's "config": Env, Cmd, Entrypoint, ...

        Raises:
            NotFound: there is no such container.
        """
        with translated(f"looking at container {name}"):
            return dict(self._client().inspect_container(name)["Config"])

    def tag_image(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image one more name; the name moves if another image had it."""
        with translated(f"tagging image {image_id}"):
            self._client().tag(image_id, repository, tag, force=True)

    def remove_image(self, reference: str) -> None:
        """Remove an image, or one of its names; absent is success.

        Raises:
            Conflict: a container needs it.
        """
        try:
            with translated(f"removing image {reference}"):
                self._client().remove_image(reference)
        except NotFound:
            return


def _in_time(items: Iterable[_Item], deadline: float | None) -> Iterator[_Item]:
    """Pass on what comes until the deadline."""
    for item in items:
        _silence(deadline)
        yield item


def _silence(deadline: float | None) -> int:
    """Return how many seconds the engine may be silent.

    Raises:
        EngineTooSlow: none.
    """
    if deadline is None:
        return _LOAD_SILENCE
    left = deadline - time.monotonic()
    if left <= 0:
        raise EngineTooSlow("The container engine did not load the image in time.", faults.CHECK_ENGINE)
    return min(_LOAD_SILENCE, math.ceil(left))
