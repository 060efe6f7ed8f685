# SPDX-License-Identifier: Apache-2.0
"""The uWSGI files of all APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration.ini import merge_ini
from dockstack.deploy.configuration.scripts import DIRECTORY
from dockstack.deploy.configuration.uwsgi import uwsgi_ini

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

MODULES = {
    "keystone": "keystone_api",
    "neutron-api": "neutron_api",
    "cinder-api": "cinder_api",
    "barbican-api": "barbican_api",
}
"""Modules of the payload that uWSGI runs in place of a service's own; they lie where the scripts are."""


def uwsgi_files(settings: Settings) -> dict[str, Ini]:
    """Return the uWSGI file of each API by the API's service name."""
    ports = settings.ports
    modules = {
        "keystone": (MODULES["keystone"], ports.keystone),
        "placement-api": ("placement.wsgi.api", ports.placement),
        "glance-api": ("glance.wsgi.api", ports.glance),
        "nova-api": ("nova.wsgi.osapi_compute", ports.nova),
        "nova-metadata": ("nova.wsgi.metadata", ports.nova_metadata),
        "neutron-api": (MODULES["neutron-api"], ports.neutron),
        **({"cinder-api": (MODULES["cinder-api"], ports.cinder)} if settings.volumes else {}),
        **({"barbican-api": (MODULES["barbican-api"], ports.barbican)} if settings.key_manager else {}),
    }
    special = {name: {"pythonpath": DIRECTORY} for name in MODULES}
    special["neutron-api"] |= forget_last_start()
    return {
        name: merge_ini(
            uwsgi_ini(module, settings.bind_address, port, settings.api_threads), {"uwsgi": special.get(name, {})}
        )
        for name, (module, port) in modules.items()
    }


def forget_last_start() -> dict[str, str]:
    """Return the options that make Neutron's OVN driver see each start of the API as a new one.

    It keeps its start time in a temporary file named after its parent process, which under a supervisor is the same at
    each start. With an old time it leaves its last run's node in the hash ring, and for a minute that dead node gets
    half of OVN's events: servers wait in vain for their ports (neutron/common/wsgi_utils.py:get_start_time).
    """
    return {"exec-pre-app": "rm -f /tmp/neutron_start_time*"}
