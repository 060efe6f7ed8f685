# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.base_image [--archive FILE] [NAME ...]``: put the base image into OS_CLOUD's Glance.

Each NAME is one more under which Glance shall have it, for programs that look for that. With an archive, nothing is
built.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import openstack

from dockstack.deploy.base_image.glance import alias, base_upload, import_image
from dockstack.errors import DockstackError


def main() -> None:
    """Import the base image; nothing is uploaded if Glance has the same content already."""
    parser = argparse.ArgumentParser(prog="python -m dockstack.deploy.base_image")
    parser.add_argument("--archive", type=Path)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    try:
        base = base_upload(asked.archive)
        connection = openstack.connect()
        found = [import_image(connection, each) for each in (base, *(alias(base, name) for name in asked.names))]
    except DockstackError as error:
        sys.exit(f"{error}\n{error.details}".rstrip())
    for imported in found:
        print(f"{imported.name} {imported.id} {'uploaded' if imported.uploaded else 'is there'}")


if __name__ == "__main__":
    main()
