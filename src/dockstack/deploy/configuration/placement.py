# SPDX-License-Identifier: Apache-2.0
"""Placement: SQL only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings


def placement_conf(settings: Settings) -> Ini:
    """Return placement.conf."""
    return {
        "DEFAULT": oslo.logging_options(settings),
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": oslo.token_section(settings, "placement"),
        "placement_database": oslo.database_section(settings, "placement", "placement"),
    }
