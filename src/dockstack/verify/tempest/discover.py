# SPDX-License-Identifier: Apache-2.0
"""Find out what Tempest needs to know of the cloud, and make what is missing: an alternative image and two flavors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from dockstack.errors import DockstackError
from dockstack.verify.cloud import choose_image
from dockstack.verify.tempest.model import Credentials, TempestFacts, VolumeFacts

if TYPE_CHECKING:
    from pathlib import Path

LOGIN_USER = "dockstack"
OFFICIAL = {"volumev3": "block-storage", "block-store": "block-storage", "volume": "block-storage"}


@dataclass(frozen=True)
class Flavor:
    """A flavor of ours."""

    name: str
    vcpus: int
    ram: int  # MiB
    disk: int  # GiB


SMALL = Flavor("tempest-small", 1, 96, 1)
LARGE = Flavor("tempest-large", 1, 160, 2)


def discover(connection: Any, directory: Path) -> TempestFacts:
    """Collect the facts and make what is missing; idempotent.

    Args:
        connection: an administrator's.
        directory: where the image's data is kept.

    Raises:
        DockstackError: no administrator, no compute node, no image.
    """
    nodes = [each for each in connection.compute.hypervisors(details=True) if each.state == "up"]
    if not nodes:
        raise DockstackError("No compute node is up.", "See `dockstack status`, then run `dockstack up`.")
    image = choose_image(connection, None)
    file = fetch(connection, image, directory)
    external = find_external(connection)
    services = read_services(connection)
    return TempestFacts(
        admin=read_credentials(connection),
        services=services,
        compute_versions=read_versions(connection, "compute"),
        placement_versions=read_versions(connection, "placement"),
        extensions=tuple(sorted(each.alias for each in connection.network.extensions())),
        external_network=None if external is None else (external.id, external.name),
        guaranteed_network=find_guaranteed(connection, external),
        hosts=tuple(sorted(each.service_details["host"] for each in nodes)),
        image=image.id,
        image_alternative=ensure_alternative(connection, image, file),
        image_file=compress(file),
        flavor=ensure_flavor(connection, SMALL),
        flavor_alternative=ensure_flavor(connection, LARGE),
        login_user=(image.properties or {}).get("os_admin_user") or LOGIN_USER,
        volumes=read_volumes(connection) if "block-storage" in services else None,
    )


def read_credentials(connection: Any) -> Credentials:
    """Read the credentials from clouds.yaml or the environment.

    Raises:
        DockstackError: the credentials have no password, which Tempest needs.
    """
    auth = connection.config.config["auth"]
    try:
        return Credentials(
            auth_url=auth["auth_url"],
            username=auth["username"],
            password=auth["password"],
            project=auth["project_name"],
            user_domain=auth.get("user_domain_name", "Default"),
            project_domain=auth.get("project_domain_name", "Default"),
            region=connection.config.region_name or "RegionOne",
            ca_file=connection.config.config.get("cacert"),
        )
    except KeyError as error:
        raise DockstackError(
            f"The cloud's entry in clouds.yaml has no {error}.",
            "Tempest logs in with a user name and a password: name such a cloud with --os-cloud.",
        ) from error


def read_services(connection: Any) -> frozenset[str]:
    """Read the types of the catalogue's services, by their official names."""
    catalogue = connection.session.auth.get_access(connection.session).service_catalog.catalog
    return frozenset(OFFICIAL.get(entry["type"], entry["type"]) for entry in catalogue)


def read_versions(connection: Any, service: str) -> tuple[str, str]:
    """Read the oldest and the newest microversion of a service's API."""
    endpoint = getattr(connection, service).get_endpoint_data()
    return (
        ".".join(str(part) for part in endpoint.min_microversion),
        ".".join(str(part) for part in endpoint.max_microversion),
    )


def read_volumes(connection: Any) -> VolumeFacts | None:
    """Read what Cinder says of itself and of its first backend; None while it has none."""
    pool = next(iter(connection.block_storage.backend_pools()), None)
    if pool is None:
        return None
    types = connection.block_storage.types()
    shared = (each.name for each in types if (each.extra_specs or {}).get("multiattach") == "<is> True")
    return VolumeFacts(
        versions=read_versions(connection, "block_storage"),
        vendor=pool.capabilities["vendor_name"],
        protocol=pool.capabilities["storage_protocol"],
        multiattach_type=next(shared, None),
    )


def find_external(connection: Any) -> Any | None:
    """Find the network that floating IPs come from; the default one if there are several."""
    found = list(connection.network.networks(is_router_external=True))
    found.sort(key=lambda each: (not each.is_default, each.name))
    return found[0] if found else None


def find_guaranteed(connection: Any, external: Any | None) -> str | None:
    """Find the external network's physical one, if Placement knows of bandwidth there to guarantee.

    Source: Neutron's resource classes NET_BW_*_KILOBIT_PER_SEC, whose providers hosts' agents make.
    """
    offers = connection.placement.resource_providers(resources="NET_BW_IGR_KILOBIT_PER_SEC:1")
    physical: str | None = external.provider_physical_network if external is not None and any(offers) else None
    return physical


def fetch(connection: Any, image: Any, directory: Path) -> Path:
    """Keep an image's data on this machine, since some tests upload it."""
    path = directory / f"{image.id}.tar"
    if not path.exists():
        for former in directory.glob("*.tar"):
            former.unlink()
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for chunk in connection.image.download_image(image, stream=True).iter_content(1 << 20):
                file.write(chunk)
        partial.replace(path)
    return path


def compress(file: Path) -> Path:
    """Keep an image's data compressed beside it: what Python knows for a tar archive, Tempest unpacks for a kernel.

    Source: tempest/scenario/manager.py:image_create. Hosts decompress zstd; Python does only from 3.14 on.
    """
    path = file.with_suffix(".tar.zst")
    if not path.exists():
        for former in file.parent.glob("*.tar.zst"):
            former.unlink()
        partial = path.with_suffix(".partial")
        with file.open("rb") as source, partial.open("wb") as destination:
            zstandard.ZstdCompressor().copy_stream(source, destination)
        partial.replace(path)
    return path


def ensure_alternative(connection: Any, image: Any, file: Path) -> str:
    """Have a second image with the first one's content; it is replaced when that changes."""
    name = "tempest-alternative"
    wanted = hashlib.sha512(file.read_bytes()).hexdigest()
    for former in connection.image.images(name=name):
        if former.status == "active" and former.hash_value == wanted:
            return str(former.id)
        connection.image.delete_image(former.id)
    properties = {
        "img_hv_type": "docker",
        "hw_vm_mode": "exe",
        "hw_architecture": image.architecture or image.properties.get("hw_architecture"),
    }
    with file.open("rb") as data:
        made = connection.image.create_image(
            name,
            container_format="docker",
            disk_format="raw",
            visibility="public",
            data=data,
            validate_checksum=False,
            wait=True,
            **properties,
        )
    return str(made.id)


def ensure_flavor(connection: Any, flavor: Flavor) -> str:
    """Have a flavor of ours."""
    found = connection.compute.find_flavor(flavor.name)
    if found is not None and (found.vcpus, found.ram, found.disk) == (flavor.vcpus, flavor.ram, flavor.disk):
        return str(found.id)
    if found is not None:
        connection.compute.delete_flavor(found.id)
    made = connection.compute.create_flavor(name=flavor.name, vcpus=flavor.vcpus, ram=flavor.ram, disk=flavor.disk)
    return str(made.id)
