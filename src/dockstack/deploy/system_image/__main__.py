# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.system_image SUITE``: build a system image and offer it to everybody of OS_CLOUD."""

from __future__ import annotations

import sys

import openstack

from dockstack.deploy.base_image.glance import import_image
from dockstack.deploy.base_image.packages import architecture
from dockstack.deploy.system_image.builder import build
from dockstack.deploy.system_image.packages import default_mirrors
from dockstack.deploy.system_image.recipe import Recipe
from dockstack.deploy.system_image.upload import describe
from dockstack.errors import DockstackError


def main(suite: str) -> None:
    """Build it of today's packages, and import it; nothing is uploaded if Glance has the same content already."""
    wanted = Recipe(suite, architecture())
    try:
        built = build(wanted, default_mirrors(), lambda _title, _done, _total: None)
        done = import_image(openstack.connect(), describe(wanted, built, public=True))
    except DockstackError as error:
        sys.exit(f"{error}\n{error.details}".rstrip())
    print(f"{done.name} {done.id} {'uploaded' if done.uploaded else 'is there'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
