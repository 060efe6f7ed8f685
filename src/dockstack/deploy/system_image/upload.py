# SPDX-License-Identifier: Apache-2.0
"""A built system image as Glance shall have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.base_image.glance import Upload
from dockstack.deploy.system_image.recipe import MEMORY_MB

if TYPE_CHECKING:
    from dockstack.deploy.base_image.built import BuiltImage
    from dockstack.deploy.system_image.recipe import Recipe

_GIGABYTE = 1 << 30


def describe(recipe: Recipe, built: BuiltImage, name: str = "", *, public: bool) -> Upload:
    """Describe the upload of an image.

    Args:
        recipe: what it was built by.
        built: it.
        name: in Glance; the recipe's own if there is none.
        public: whether every project may boot it.
    """
    return Upload(
        name or recipe.name,
        built.size(),
        built.archive,
        built.configuration.platform.architecture,
        public=public,
        min_disk=built.layer.size + _GIGABYTE - 1 >> 30,
        min_ram=MEMORY_MB,
        properties=recipe.properties(),
    )
