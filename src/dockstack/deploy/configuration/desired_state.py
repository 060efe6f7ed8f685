# SPDX-License-Identifier: Apache-2.0
"""The desired state of a new cloud (accounts, endpoints, flavors, networks), as the data that provision.py takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dockstack.deploy.configuration import compatibility
from dockstack.deploy.configuration.settings import SERVICE_USERS
from dockstack.names import AGGREGATE_PROPERTIES
from dockstack.oci.distribution.protocol import SERVICE_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.configuration.settings import Settings

TENANT = "demo"
VOLUME_TYPE = "file"
VOLUME_ENCRYPTION = {
    "provider": "luks",
    "cipher": "aes-xts-plain64",
    "key_size": 256,
    "control_location": "front-end",
}
LARGEST_LIMIT = (1 << 31) - 1
"""The largest that Keystone takes."""

FLAVORS: tuple[dict[str, Any], ...] = (
    {"id": "1", "name": "m1.nano", "vcpus": 1, "ram": 64, "disk": 1},
    {"id": "2", "name": "m1.tiny", "vcpus": 1, "ram": 256, "disk": 1},
    {"id": "3", "name": "m1.small", "vcpus": 1, "ram": 1024, "disk": 5},
    {"id": "4", "name": "m1.medium", "vcpus": 2, "ram": 2048, "disk": 10},
)


def administrator(settings: Settings) -> dict[str, Any]:
    """Return how to reach Keystone as its administrator; it holds the password."""
    trusted = {"authority": settings.authority} if settings.tls else {}
    return {"auth_url": settings.identity_url, "admin_password": settings.secret("admin_password"), **trusted}


def identity(settings: Settings) -> dict[str, Any]:
    """Return accounts, catalogue and the first tenant; it holds passwords."""
    ports = settings.ports
    return {
        **administrator(settings),
        "region": settings.region,
        "accounts": {user: settings.secret(f"{user}_password") for user in SERVICE_USERS if user != "keystone"},
        "services": [
            {"name": "glance", "type": "image", "url": settings.url(ports.glance)},
            {"name": "nova", "type": "compute", "url": settings.url(ports.nova, "/v2.1")},
            {"name": "placement", "type": "placement", "url": settings.url(ports.placement)},
            {"name": "neutron", "type": "network", "url": settings.url(ports.neutron)},
        ],
        "tenant": {"project": TENANT, "user": TENANT, "password": settings.secret("demo_password")},
    }


def registry(settings: Settings) -> dict[str, Any]:
    """Return the registry's account and its entry in the catalogue; it holds the password."""
    return {
        **administrator(settings),
        "region": settings.region,
        "accounts": {"registry": settings.secret("registry_password")},
        "services": [
            {"name": "dockstack-registry", "type": SERVICE_TYPE, "url": settings.url(settings.ports.registry)}
        ],
    }


def volumes(settings: Settings) -> dict[str, Any]:
    """Return Cinder's account and its entry in the catalogue; it holds the password."""
    return {
        **administrator(settings),
        "region": settings.region,
        "accounts": {"cinder": settings.secret("cinder_password")},
        "services": [{"name": "cinder", "type": "block-storage", "url": settings.url(settings.ports.cinder, "/v3")}],
    }


def key_manager(settings: Settings) -> dict[str, Any]:
    """Return Barbican's account and its entry in the catalogue; it holds the password."""
    return {
        **administrator(settings),
        "region": settings.region,
        "accounts": {"barbican": settings.secret("barbican_password")},
        "services": [{"name": "barbican", "type": "key-manager", "url": settings.url(settings.ports.barbican)}],
    }


def volume_types(settings: Settings) -> dict[str, Any]:
    """Return the types of volumes: the default, one for volumes that several servers share, and an encrypted one."""
    encrypted = {
        "name": f"{VOLUME_TYPE}-encrypted",
        "extra_specs": {"volume_backend_name": VOLUME_TYPE},
        "encryption": VOLUME_ENCRYPTION,
    }
    return {
        **administrator(settings),
        "volume_types": [
            {"name": VOLUME_TYPE, "extra_specs": {"volume_backend_name": VOLUME_TYPE}},
            {
                "name": f"{VOLUME_TYPE}-multiattach",
                "extra_specs": {"volume_backend_name": VOLUME_TYPE, "multiattach": "<is> True"},
            },
            *([encrypted] if settings.key_manager else []),
        ],
    }


def limits(settings: Settings) -> dict[str, Any]:
    """Return the limits of each service that asks Keystone for them (glance/quota/keystone.py has names and units)."""
    quotas = settings.image_quotas
    images = {
        "image_size_total": _mebibytes(quotas.size_gb),
        "image_stage_total": _mebibytes(quotas.staged_gb),
        "image_count_total": _limit(quotas.count),
        "image_count_uploading": _limit(quotas.uploads),
    }
    return {**administrator(settings), "region": settings.region, "limits": {"glance": images}}


def _mebibytes(gibibytes: int) -> int:
    return _limit(gibibytes) if gibibytes < 0 else gibibytes * 1024


def _limit(quota: int) -> int:
    """Return a quota as Keystone is told it: with -1 for none, Glance of 2026.1 (oslo.limit 2.10) takes nothing."""
    return LARGEST_LIMIT if quota < 0 else quota


def flavors(settings: Settings) -> dict[str, Any]:
    """Return the flavors."""
    added = compatibility.FLAVORS if settings.compatibility == compatibility.DEVSTACK else ()
    return {**administrator(settings), "flavors": [*FLAVORS, *added, *map(_flavor, settings.flavors)]}


def _flavor(text: str) -> dict[str, Any]:
    name, vcpus, memory, disk = text.split(":")
    return {"name": name, "vcpus": int(vcpus), "ram": int(memory), "disk": int(disk)}


def people(settings: Settings) -> dict[str, Any]:
    """Return the accounts of a cloud that is like DevStack's, and what each may; it holds passwords."""
    return {
        **administrator(settings),
        "roles": list(compatibility.ROLES),
        "projects": list(compatibility.PROJECTS),
        "users": {user: settings.secret(f"{user}_password") for user in compatibility.USERS},
        "groups": list(compatibility.GROUPS),
        "grants": [dict(grant) for grant in compatibility.GRANTS],
    }


def networks(settings: Settings) -> dict[str, Any]:
    """Return the networks and who owns them."""
    return {
        **administrator(settings),
        "tenant": {"project": TENANT},
        "networks": asdict(settings.networks),
    }


def await_compute(settings: Settings, hosts: dict[str, int], timeout: float = 120) -> dict[str, Any]:
    """Return which compute hosts must have reported, and how long ago nova-compute started on each (seconds)."""
    return {**administrator(settings), "hosts": hosts, "timeout": timeout}


def aggregate(settings: Settings, name: str, hosts: Sequence[str]) -> dict[str, Any]:
    """Return which hosts are in an aggregate, and the properties that it has if it has to be made."""
    return {**administrator(settings), "aggregate": name, "hosts": list(hosts), "properties": AGGREGATE_PROPERTIES}


def forget_hosts(settings: Settings, hosts: list[str], *, agents: bool = True) -> dict[str, Any]:
    """Return which compute hosts are no more; without their agents where the machine goes on without servers."""
    return {**administrator(settings), "hosts": hosts, "agents": agents}
