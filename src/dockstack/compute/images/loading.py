# SPDX-License-Identifier: Apache-2.0
"""A checked image on its way into the engine, without the layers that the engine has already.

The engine writes an archive's files aside before it looks at them, also those of layers that it has: images of one base
would each bring it along. Nobody gets a layer by its name alone: the archive with its content was checked before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dockstack.compute.engine import EngineError, ImageUnusable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from dockstack.compute.engine import Engine
    from dockstack.oci.normalised import NormalisedImage

LOG = logging.getLogger(__name__)

_WORTH_A_LOOK = 8 << 20  # bytes; a smaller image is there sooner than it is known which layers the engine has


def load(engine: Engine, image: NormalisedImage, deadline: float) -> tuple[str, ...]:
    """Load an image and return the ids that the engine gives it.

    Args:
        engine: where it goes.
        image: a checked image.
        deadline: until when the engine must be done, on the monotonic clock.

    Raises:
        EngineError: as ``Engine.load_image``.
    """
    held = spared(image.layers, _stacks(engine, deadline)) if image.size >= _WORTH_A_LOOK else frozenset()
    if held:
        try:
            return engine.load_image(image.stream(held), deadline)
        except ImageUnusable as error:
            LOG.info("Loading %s whole: layers that the engine had may be gone (%s)", image.engine_id, error.details)
    return engine.load_image(image.stream(), deadline)


def _stacks(engine: Engine, deadline: float) -> frozenset[tuple[str, ...]]:
    """Return the layers of the engine's images; nothing if it does not tell: then an image is loaded whole."""
    try:
        return engine.layer_stacks(deadline)
    except EngineError as error:
        LOG.info("Loading an image whole, as the engine does not tell which layers it has (%s)", error)
        return frozenset()


def spared(layers: Sequence[str], stacks: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the layers that an engine needs no file of.

    The engine knows a layer by all that lie below it, too, so only those count that another image begins with.

    Args:
        layers: an image's, the lowest first.
        stacks: those of each image that the engine has.
    """
    common = max((_common(layers, stack) for stack in stacks), default=0)
    return frozenset(layers[:common]) - frozenset(layers[common:])


def _common(layers: Sequence[str], stack: Collection[str]) -> int:
    """Count the layers with which both begin."""
    count = 0
    for one, other in zip(layers, stack, strict=False):
        if one != other:
            break
        count += 1
    return count
