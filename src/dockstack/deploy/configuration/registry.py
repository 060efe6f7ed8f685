# SPDX-License-Identifier: Apache-2.0
"""The registry: its file and its process; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.glance import REGISTRY_ADDRESS, UNFILTERED
from dockstack.deploy.configuration.programs import PYTHON_ENVIRONMENT
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.wanted.attributes import Attributes

NAME = "registry"
USER = "dockstack-registry"
ACCOUNT = "registry"
"""What it is called at Keystone and at the database."""
CONF = f"{paths.ETC}/registry.conf"
_GIB = 1 << 30


def wanted(attributes: Attributes) -> bool:
    """Tell whether a cloud has a registry; with a Glance that filters no locations it has none."""
    return attributes.flag("registry.enable") and attributes.text("release") not in UNFILTERED


def registry_conf(settings: Settings) -> Ini:
    """Return the registry's file. It listens on the loopback, and in the clear where the APIs do.

    Glance keeps the address by which it reads an image, so that is the loopback's, which never changes.
    """
    port = settings.ports.registry
    quota = settings.image_quotas.staged_gb
    return {
        "registry": {
            "address": settings.bind_address,
            "port": str(port),
            "url": settings.url(port),
            "archive_url": f"http://{REGISTRY_ADDRESS}:{port}",
            "identity_url": settings.identity_url,
            "image_url": settings.url(settings.ports.glance),
            "authority": settings.authority,
            "username": ACCOUNT,
            "password": settings.secret("registry_password"),
            "database": settings.database_url(ACCOUNT, ACCOUNT),
            "directory": settings.registry_store,
            "secret": settings.secret("registry_secret"),
            "max_blob_bytes": str(settings.image_size_limit_gb * _GIB),
            "max_unfinished_bytes": str((quota if quota >= 0 else settings.image_size_limit_gb) * _GIB),
        }
    }


def service(settings: Settings) -> Service:
    """Return the registry's process."""
    return Service(
        name=NAME,
        title="Registry of images",
        command=(f"{settings.virtualenv}/bin/python", "-m", "dockstack.registry", CONF),
        user=USER,
        environment=PYTHON_ENVIRONMENT,
        requires=("mariadb", "keystone", "glance-api"),
        check=Check(CheckKind.HTTP, f"http://{REGISTRY_ADDRESS}:{settings.ports.registry}/"),
        watch=(CONF, paths.LOCK_MARKER, paths.DRIVER_MARKER),
    )
