# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.base_image``: build the base image and put it into the cloud named by OS_CLOUD."""

from __future__ import annotations

import sys

import openstack

from dockstack.deploy.base_image.glance import import_base
from dockstack.errors import DockstackError


def main() -> None:
    """Import the base image; nothing is uploaded if Glance has the same content already."""
    try:
        imported = import_base(openstack.connect())
    except DockstackError as error:
        sys.exit(f"{error}\n{error.details}".rstrip())
    print(f"{imported.name} {imported.id} {'uploaded' if imported.uploaded else 'is there'}")


if __name__ == "__main__":
    main()
