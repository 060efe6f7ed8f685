# SPDX-License-Identifier: Apache-2.0
"""Words that the registry and its clients must spell alike."""

from __future__ import annotations

SERVICE_TYPE = "container-registry"
"""What Keystone's catalogue calls it."""

SERVICE = "dockstack-registry"
"""What the registry calls itself where it asks for a token."""

TOKEN_USER = "token"  # noqa: S105 - a name
"""The user name of those who show a token of Keystone's instead of a password."""


def scope(name: str, *actions: str) -> str:
    """Write the scope that a token is asked for with."""
    return f"repository:{name}:{','.join(actions)}"
