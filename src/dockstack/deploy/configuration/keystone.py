# SPDX-License-Identifier: Apache-2.0
"""Keystone: Fernet tokens, SQL, memcached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings


KEY_DIRECTORIES = ("/etc/keystone/fernet-keys", "/etc/keystone/credential-keys")


def keystone_conf(settings: Settings) -> Ini:
    """Return keystone.conf."""
    return {
        "DEFAULT": {**oslo.logging_options(settings), "public_endpoint": settings.url(settings.ports.keystone, "/")},
        "database": oslo.database_section(settings, "keystone", "keystone"),
        "cache": oslo.cache_section(settings),
        "token": {"provider": "fernet", "expiration": "14400"},
        "fernet_tokens": {"key_repository": KEY_DIRECTORIES[0]},
        "credential": {"key_repository": KEY_DIRECTORIES[1]},
        **oslo.messaging_sections(settings),
    }
