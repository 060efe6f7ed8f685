# SPDX-License-Identifier: Apache-2.0
"""What suites that were written for a DevStack look for in a cloud: its flavors, people, roles and clouds; pure.

Names and sizes are those of DevStack's stackrc, lib/keystone, lib/nova, lib/tempest and functions-common (2026-07).
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DEVSTACK = "devstack"

FLAVORS: tuple[dict[str, Any], ...] = (
    {"id": "4", "name": "m1.large", "vcpus": 4, "ram": 8192, "disk": 80},
    {"id": "5", "name": "m1.xlarge", "vcpus": 8, "ram": 16384, "disk": 160},
    {"id": "84", "name": "m1.micro", "vcpus": 1, "ram": 256, "disk": 1},
    {"id": "c1", "name": "cirros256", "vcpus": 1, "ram": 256, "disk": 1},
    {"id": "d1", "name": "ds512M", "vcpus": 1, "ram": 512, "disk": 5},
    {"id": "d2", "name": "ds1G", "vcpus": 1, "ram": 1024, "disk": 10},
    {"id": "d3", "name": "ds2G", "vcpus": 2, "ram": 2048, "disk": 10},
    {"id": "d4", "name": "ds4G", "vcpus": 4, "ram": 4096, "disk": 20},
)
"""Those whose names a cloud has not anyway. The id of m1.large is taken already: Nova gives it another."""

IMAGE = f"cirros-0.6.3-{platform.machine()}-disk"
"""What DevStack calls its first image; suites take whichever is called `cirros-...-disk`."""

ROLES = ("ResellerAdmin", "anotherrole")
PROJECTS = ("demo", "alt_demo", "invisible_to_admin")
USERS = ("demo_reader", "alt_demo", "alt_demo_member", "alt_demo_reader", "system_member", "system_reader")
"""Besides admin and demo, whom each cloud has."""
PASSWORDS = tuple(f"{user}_password" for user in USERS)
GROUPS = ("admins", "nonadmins")

_PROJECT_GRANTS = (
    ("user", "admin", "admin", "demo"),
    ("user", "demo", "member", "demo"),
    ("user", "demo", "anotherrole", "demo"),
    ("user", "demo", "member", "invisible_to_admin"),
    ("user", "demo_reader", "reader", "demo"),
    ("user", "alt_demo", "admin", "alt_demo"),
    ("user", "alt_demo", "anotherrole", "alt_demo"),
    ("user", "alt_demo_member", "member", "alt_demo"),
    ("user", "alt_demo_reader", "reader", "alt_demo"),
    ("group", "admins", "admin", "admin"),
    *(("group", "nonadmins", role, project) for role in ("member", "anotherrole") for project in PROJECTS[:2]),
)
GRANTS: tuple[Mapping[str, str], ...] = (
    *({kind: name, "role": role, "project": project} for kind, name, role, project in _PROJECT_GRANTS),
    {"user": "admin", "role": "admin", "domain": "default"},
    {"user": "system_member", "role": "member", "system": "all"},
    {"user": "system_reader", "role": "reader", "system": "all"},
)

CLOUDS: Mapping[str, tuple[str, str]] = {
    "devstack": ("demo", "demo"),
    "devstack-admin": ("admin", "admin"),
    "devstack-admin-demo": ("admin", "demo"),
    "devstack-alt": ("alt_demo", "alt_demo"),
    "devstack-alt-member": ("alt_demo_member", "alt_demo"),
    "devstack-alt-reader": ("alt_demo_reader", "alt_demo"),
    "devstack-reader": ("demo_reader", "demo"),
    "devstack-system-admin": ("admin", ""),
    "devstack-system-member": ("system_member", ""),
    "devstack-system-reader": ("system_reader", ""),
}
"""Cloud in clouds.yaml -> user and project; without one, all of the system."""
