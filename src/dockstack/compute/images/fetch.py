# SPDX-License-Identifier: Apache-2.0
"""Glance images in the engine: fetched once, however many servers ask at the same time.

An image is found again by two tags, which no image can bring along because names are dropped on the way in:
``dockstack.local/glance:<image id>`` for people, ``dockstack.local/checksum:<os_hash_value>`` for its very content.
What is in Glance by reference only, or has to be signed, has a tag for what it was accepted by instead of the latter.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockstack.compute.engine import Conflict, EngineTooSlow
from dockstack.compute.images import loading
from dockstack.compute.images.cache import (
    ACCEPTED_REPOSITORY,
    CHECKSUM_REPOSITORY,
    GLANCE_REPOSITORY,
    REPOSITORIES,
    CachedImage,
    CacheReport,
    choose_expired,
    is_used,
)
from dockstack.compute.model import REFERENCE_FORMAT
from dockstack.errors import DockstackError
from dockstack.oci import snapshot
from dockstack.oci.documents import ImageRejected
from dockstack.oci.process import image_config
from dockstack.oci.sandbox import InputTooSlow, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dockstack.compute.engine import Engine, EngineImage
    from dockstack.compute.images.registries import Registries
    from dockstack.compute.model import Image, Source
    from dockstack.oci.documents import Layer
    from dockstack.oci.normalised import NormalisedImage
    from dockstack.oci.process import ImageConfig
    from dockstack.oci.streams import ImageLimits

LOG = logging.getLogger(__name__)

__all__ = ["CHECKSUM_REPOSITORY", "GLANCE_REPOSITORY", "FetchTimeout", "ImageStore", "LoadedImage"]

_Key = tuple[str, str | None, "Source | None", str]
_CHECKSUM = re.compile("[0-9a-f]{32,128}")  # md5 to sha512; a tag takes 128 characters


class FetchTimeout(DockstackError):  # noqa: N818 - said of the fetch
    """An image took too long; another host may be faster."""


@dataclass(frozen=True)
class LoadedImage:
    """An image that the engine has."""

    engine_id: str  # "sha256:..."; always create from this, never from a name
    config: ImageConfig
    size: int  # bytes, unpacked


@dataclass(frozen=True)
class _Flight:
    """A fetch under way, which others wait for."""

    max_bytes: int
    result: Future[LoadedImage]


class ImageStore:
    """The engine's images, by Glance image."""

    def __init__(
        self,
        engine: Engine,
        download: Callable[[Image], Iterable[bytes]],
        workspace: Path,
        limits: ImageLimits,
        *,
        timeout: float = 1800,
        parallel: int = 2,
        architecture: str = "",
        registries: Registries | None = None,
    ) -> None:
        """Join an engine and a way to download.

        Args:
            engine: where the images go.
            download: streams an image's data as Glance stores it.
            workspace: a directory of ours alone, for archives while they are checked.
            limits: what no image may exceed, whatever its flavor's disk.
            timeout: seconds that downloading, checking and loading one image may take, waiting for a slot not counted.
            parallel: how many different images are fetched side by side.
            architecture: the engine's machine, as uname names it; this machine's if empty.
            registries: where images come from that Glance has by reference only; None: from nowhere.
        """
        self._engine = engine
        self._download = download
        self._workspace = workspace
        self.limits = limits
        self._timeout = timeout
        self._architecture = architecture or platform.machine()
        self.registries = registries
        self._slots = threading.BoundedSemaphore(parallel)
        self._lock = threading.Lock()
        self._names = threading.Lock()  # held while an image is taken into use, or removed for being unused
        self._flights: dict[_Key, _Flight] = {}

    def ensure(self, image: Image, max_bytes: int) -> LoadedImage:
        """Return the image in the engine; fetch it if it is not there yet.

        Whoever asks for an image that is being fetched waits for that fetch and shares its result, also its failure;
        the next one after a failure tries again.

        Args:
            image: as Glance describes it.
            max_bytes: what it may unpack to: the flavor's disk; 0: the host's limit alone.

        Raises:
            ImageRejected: it is broken, hostile, too large, or not for this host.
            RegistryError: the registry that has it does not give it.
            WorkspaceFull: the host has no room to check it.
            FetchTimeout: it took too long.
            EngineError: the engine could not take it.
        """
        if image.container_format == REFERENCE_FORMAT and image.source is None:
            raise ImageRejected(
                f"{image.name} only names an image in a registry ({REFERENCE_FORMAT}), and nobody has looked there.",
                "Rebuild the server, or upload the image itself, in the format docker.",
            )
        allowed = min(max_bytes or self.limits.max_unpacked_bytes, self.limits.max_unpacked_bytes)
        while True:
            flight, owner = self._join(image, allowed)
            if owner:
                self._fly(image, flight)
            try:
                loaded = flight.result.result()
            except ImageRejected:
                if owner or allowed <= flight.max_bytes:
                    raise
                continue  # refused for another's smaller disk, perhaps: try with ours
            if loaded.size > allowed:
                raise ImageRejected(
                    f"The image unpacks to {loaded.size >> 20} MiB and may have {allowed >> 20} MiB.",
                    "Choose a flavor with a larger disk, or a smaller image.",
                )
            return loaded

    def fetch_ahead(self, image: Image) -> bool:
        """See to it that an image is there for servers to come; say whether it had to be fetched.

        Raises:
            DockstackError: as ``ensure``.
        """
        if self._cached(image):
            return False
        self.ensure(image, 0)
        return True

    def age_out(self, servers_images: Collection[str], minimum_age: float, now: float, *, remove: bool) -> CacheReport:
        """Note which images are in use, and remove those of ours that were not for long enough.

        Args:
            servers_images: the Glance ids of the images that Nova's servers here name.
            minimum_age: seconds that an image has to be unused.
            now: seconds since the epoch.
            remove: false: only look.

        Raises:
            EngineError: the engine failed.
        """
        images, containers_images = list_cached(self._engine), self._engine.used_images()
        used = [image for image in images if is_used(image, containers_images, servers_images)]
        for image in used:
            self._engine.tag_image(image.engine_id, *image.tags[0].rsplit(":", 1))
        unused = [image for image in images if image not in used]
        expired = choose_expired(unused, now, minimum_age) if remove else ()
        removed = [image for image in expired if self._expire(image)]
        freed = sum(image.size for image in removed)
        return CacheReport(len(images), sum(image.size for image in images), len(used), len(removed), freed)

    def _expire(self, image: CachedImage) -> bool:
        """Remove an unused image, unless somebody has asked for it just now."""
        with self._names:
            found = self._engine.image(image.engine_id)
            if found is None or CachedImage.of(found) != image:
                return False
            LOG.info("Removing image %s, which no server uses any more (%d MiB)", image.tags[0], image.size >> 20)
            try:
                for tag in image.tags:
                    self._engine.remove_image(tag)
            except Conflict as error:
                LOG.info("Image %s stays, a container needs it: %s", image.tags[0], error)
                return False
        return True

    def matches(self, image: Image, engine_id: str) -> bool:
        """Whether any host that fetches a Glance image gets this very image of the engine's."""
        if image.may_point:  # the other host may reach other registries, and a tag may mean another image by now
            return False
        cached = self._cached(image)
        return cached is not None and cached.engine_id == engine_id

    def adopt(self, glance_id: str, engine_id: str, chunks: Iterable[bytes]) -> LoadedImage:
        """Load an image that another host had loaded, which Glance may not have any more.

        Args:
            glance_id: the image that it was, as servers name it.
            engine_id: what it must be.
            chunks: the other engine's archive of it.

        Raises:
            ImageRejected: it is another image.
            EngineError: the engine could not take it.
        """
        found = self._engine.image(engine_id)
        if found is None:
            if self._engine.load_image(chunks) != (engine_id,):
                raise ImageRejected(f"The other host sent another image than {engine_id}.", "Migrate the server again.")
            self._engine.tag_image(engine_id, GLANCE_REPOSITORY, glance_id)
            found = self._engine.image(engine_id)
        if found is None:
            raise ImageRejected(f"The image {engine_id} vanished while it was loaded.", "Migrate the server again.")
        return _described(found)

    def remove(self, glance_id: str) -> None:
        """Forget a Glance image; its content goes when no other Glance image has the same.

        Raises:
            Conflict: a container still needs it.
        """
        name = f"{GLANCE_REPOSITORY}:{glance_id}"
        found = self._engine.image(name)
        if found is None:
            return
        self._engine.remove_image(name)
        if any(tag.startswith(f"{GLANCE_REPOSITORY}:") and tag != name for tag in found.tags):
            return
        for tag in found.tags:
            if tag.startswith((f"{CHECKSUM_REPOSITORY}:", f"{ACCEPTED_REPOSITORY}:")):
                self._engine.remove_image(tag)

    def sweep(self) -> None:
        """Make the workspace, and empty it of what a dead process may have left."""
        self._workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._workspace.glob("spool-*"):
            LOG.info("Removing %s, left by a process that was killed", path)
            path.unlink(missing_ok=True)
        if self.registries is not None:
            self.registries.kept.sweep()

    def measuring(self) -> AbstractContextManager[Callable[[Callable[[], Iterable[bytes]]], Layer]]:
        """Start what reads a server's root file system as a layer, which is read again when it is sent.

        Raises:
            DockstackError: as ``dockstack.oci.snapshot.measuring``.
        """
        return snapshot.measuring(self.limits, self._timeout)

    def _join(self, image: Image, max_bytes: int) -> tuple[_Flight, bool]:
        """Find the flight for an image, or open one; True if it is ours to fly."""
        key = _key(image)
        with self._lock:
            if key in self._flights:
                return self._flights[key], False
            flight = self._flights[key] = _Flight(max_bytes, Future())
            return flight, True

    def _fly(self, image: Image, flight: _Flight) -> None:
        """Do the work of a flight, and tell everybody who waits how it ended."""
        try:
            loaded = self._cached(image) or self._fetch_in_turn(image, flight.max_bytes)
        except BaseException as error:  # whatever it was, nobody may wait for ever
            self._land(image)
            flight.result.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._land(image)
            flight.result.set_result(loaded)

    def _land(self, image: Image) -> None:
        with self._lock:
            del self._flights[_key(image)]

    def _cached(self, image: Image) -> LoadedImage | None:
        """Find the image by its content; by its id alone only where Glance recorded no checksum."""
        with self._names:
            found = self._engine.image(self._name(image) or f"{GLANCE_REPOSITORY}:{image.id}")
            if found is None:
                return None
            self._engine.tag_image(found.id, GLANCE_REPOSITORY, image.id)  # also notes that it was asked for now
        return _described(found)

    def _fetch_in_turn(self, image: Image, max_bytes: int) -> LoadedImage:
        """Wait for a slot; only a download needs one, so large images of one tenant delay no server of another's."""
        with self._slots:
            return self._cached(image) or self._fetch(image, max_bytes)

    def _fetch(self, image: Image, max_bytes: int) -> LoadedImage:
        limits = replace(self.limits, max_unpacked_bytes=max_bytes)
        deadline = time.monotonic() + self._timeout
        try:
            checked = normalise(
                self._open(image, max_bytes),
                architecture=self._architecture,
                limits=limits,
                workspace=self._workspace,
                timeout=max(1, deadline - time.monotonic()),
            )
        except InputTooSlow as error:
            raise self._too_slow("downloading") from error
        with checked as normalised:
            LOG.info("Loading image %s (%r) as %s", image.id, image.name, normalised.engine_id)
            ids = self._load(normalised, deadline)
            if ids != (normalised.engine_id,):
                raise ImageRejected(
                    f"The engine took the image for {', '.join(ids)} instead of {normalised.engine_id}.",
                    "This is a fault of the host's engine: look at its log and its version.",
                )
            self._tag(image, normalised.engine_id)
            return LoadedImage(normalised.engine_id, normalised.config, normalised.size)

    def _open(self, image: Image, max_bytes: int) -> Iterator[bytes]:
        """Start reading an image's archive, from Glance or from where Glance says that it is."""
        if image.source is None or self.registries is None:
            return _counted(self._download(image), image)
        return self.registries.pull(image.source, self._architecture, 2 * max_bytes, self._timeout)

    def _load(self, image: NormalisedImage, deadline: float) -> tuple[str, ...]:
        """Give an image to the engine, which gets until the deadline, also for what it does after the last byte."""
        try:
            return loading.load(self._engine, image, deadline)
        except EngineTooSlow as error:
            raise self._too_slow("loading") from error

    def _too_slow(self, doing: str) -> FetchTimeout:
        return FetchTimeout(
            f"The image was not here within {self._timeout:g} s; the host was still {doing} it.",
            "Raise [docker] image_timeout on this host, or look what slows Glance or the disk down.",
        )

    def _tag(self, image: Image, engine_id: str) -> None:
        """Name the image, so that it is found again and no prune of nameless images takes it."""
        self._engine.tag_image(engine_id, GLANCE_REPOSITORY, image.id)
        by_content = None if image.source is not None else _checksum_name(image)
        for name in filter(None, {self._name(image), by_content}):
            self._engine.tag_image(engine_id, *name.rsplit(":", 1))

    def _name(self, image: Image) -> str | None:
        """Return the tag by which an image is found again; None where nothing tells its content."""
        if image.source is not None and self.registries is not None:
            place = image.source
            accepted = [place.registry, place.repository, place.digest, place.platform, self.registries.trust(place)]
        elif image.trust:
            accepted = ["glance", str(image.checksum), image.trust]
        else:
            return _checksum_name(image)
        return f"{ACCEPTED_REPOSITORY}:{hashlib.sha256(json.dumps(accepted).encode()).hexdigest()}"


def list_cached(engine: Engine) -> tuple[CachedImage, ...]:
    """List the images of ours that an engine has."""
    names = {found.id: found for repository in REPOSITORIES for found in engine.images(reference=repository)}
    whole = (engine.image(engine_id) for engine_id in names)
    return tuple(cached for found in whole if found is not None and (cached := CachedImage.of(found)) is not None)


def _key(image: Image) -> _Key:
    return image.id, image.checksum, image.source, image.trust


def _checksum_name(image: Image) -> str | None:
    if image.checksum is None or not _CHECKSUM.fullmatch(image.checksum):
        return None
    return f"{CHECKSUM_REPOSITORY}:{image.checksum}"


def _described(found: EngineImage) -> LoadedImage:
    return LoadedImage(found.id, image_config(found.config), found.size)


def _counted(chunks: Iterable[bytes], image: Image) -> Iterator[bytes]:
    """Pass a download on and insist on its length; hang up when nobody reads on.

    Raises:
        ImageRejected: Glance sent less or more than it says that the image has.
    """
    count = 0
    try:
        for chunk in chunks:
            count += len(chunk)
            yield chunk
    finally:
        if callable(close := getattr(chunks, "close", None)):
            close()
    if image.size is not None and count != image.size:
        raise ImageRejected(
            f"Glance sent {count} bytes of image {image.id}, which has {image.size}.",
            "Look at Glance's store and log; then try again.",
        )
