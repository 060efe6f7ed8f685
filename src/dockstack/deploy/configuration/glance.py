# SPDX-License-Identifier: Apache-2.0
"""Glance: images are kept in files; container formats are added to the default ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

DEFAULT_CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
"""Glance's own list (glance/common/config.py), to which a hypervisor adds."""

STATE_DIRECTORY = "/var/lib/glance"

REGISTRY_STORE = "registry"
"""Glance's name for what it reads from the registry."""

REGISTRY_ADDRESS = "127.0.0.1"
"""Where Glance reads from the registry."""

UNFILTERED = frozenset({"2026.1"})
"""Releases whose Glance (32.0.0) reads any address that a project names as an image's location, unfiltered."""


def container_formats(added: Iterable[str]) -> tuple[str, ...]:
    """Return Glance's own formats and the added ones, each once, in a stable order."""
    return tuple(dict.fromkeys((*DEFAULT_CONTAINER_FORMATS, *added)))


def limit_section(settings: Settings) -> dict[str, str]:
    """Return [oslo_limit]: the account with which Glance reads limits, and the endpoint to which they are registered.

    Keystone lists services, endpoints and any project's limits to an administrator; the services' accounts are that in
    their own project, so none needs a role on the system.
    """
    return {
        **oslo.client_section(settings, "glance"),
        "endpoint_service_type": "image",
        "endpoint_region_name": settings.region,
        "endpoint_interface": "internal",
    }


def glance_api_conf(settings: Settings) -> Ini:
    """Return glance-api.conf."""
    return {
        **(_registry(settings) if settings.http_images else {}),
        "DEFAULT": {
            **oslo.logging_options(settings),
            "enabled_backends": "files:file" + (f",{REGISTRY_STORE}:http" if settings.http_images else ""),
            # web-download would let a tenant read what only this machine can reach.
            "enabled_import_methods": "[glance-direct]",
            # No host loads an image, and no snapshot ends, before all of it was hashed; on processors that have
            # instructions for it, this is three times as fast as the default, sha512.
            "hashing_algorithm": "sha256",
            "image_size_cap": str(settings.image_size_limit_gb * 1024**3),
            "use_keystone_limits": "true",
            "worker_self_reference_url": settings.url(settings.ports.glance),
        },
        "database": oslo.database_section(settings, "glance", "glance"),
        "glance_store": {"default_backend": "files"},
        "files": {"filesystem_store_datadir": settings.image_store},
        "os_glance_staging_store": {"filesystem_store_datadir": f"{STATE_DIRECTORY}/staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": f"{STATE_DIRECTORY}/tasks"},
        "image_format": {"container_formats": ",".join(container_formats(settings.container_formats))},
        "keystone_authtoken": oslo.token_section(settings, "glance"),
        "oslo_limit": limit_section(settings),
        "paste_deploy": {"flavor": "keystone", "config_file": "/etc/glance/glance-api-paste.ini"},
        "oslo_concurrency": {"lock_path": f"{STATE_DIRECTORY}/lock"},
        **oslo.messaging_sections(settings),
        # By which an image's signature is verified while it is uploaded (img_signature_certificate_uuid).
        **oslo.key_manager_sections(settings, "glance"),
    }


def _registry(settings: Settings) -> Ini:
    """Return what lets Glance read images from the registry, and lets nobody have it read anything else.

    A project may say where an image's data is, so what is allowed here is what any of them can have Glance ask: the
    registry alone, which answers to signed addresses. Lists of this section are read with their brackets only.
    """
    return {
        "import_filtering_opts": {
            "allowed_hosts": f"[{REGISTRY_ADDRESS}]",
            "allowed_ports": f"[{settings.ports.registry}]",
            "allowed_schemes": "[http]",
        }
    }
