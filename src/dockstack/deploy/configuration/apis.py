# SPDX-License-Identifier: Apache-2.0
"""The uWSGI files of all APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration.uwsgi import uwsgi_ini

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings


def uwsgi_files(settings: Settings) -> dict[str, Ini]:
    """Return the uWSGI file of each API by the API's service name."""
    ports = settings.ports
    modules = {
        "keystone": ("keystone.wsgi.api", ports.keystone),
        "placement-api": ("placement.wsgi.api", ports.placement),
        "glance-api": ("glance.wsgi.api", ports.glance),
        "nova-api": ("nova.wsgi.osapi_compute", ports.nova),
        "nova-metadata": ("nova.wsgi.metadata", ports.nova_metadata),
        "neutron-api": ("neutron.wsgi.api", ports.neutron),
    }
    return {
        name: uwsgi_ini(module, settings.bind_address, port, settings.api_threads)
        for name, (module, port) in modules.items()
    }
