# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.base_image [NAME ...]``: put the base image into the cloud named by OS_CLOUD.

Each NAME is one more under which Glance shall have it, for programs that look for that.
"""

from __future__ import annotations

import sys

import openstack

from dockstack.deploy.base_image.glance import alias, base_upload, import_image
from dockstack.errors import DockstackError


def main() -> None:
    """Import the base image; nothing is uploaded if Glance has the same content already."""
    try:
        base = base_upload()
        connection = openstack.connect()
        found = [import_image(connection, each) for each in (base, *(alias(base, name) for name in sys.argv[1:]))]
    except DockstackError as error:
        sys.exit(f"{error}\n{error.details}".rstrip())
    for imported in found:
        print(f"{imported.name} {imported.id} {'uploaded' if imported.uploaded else 'is there'}")


if __name__ == "__main__":
    main()
