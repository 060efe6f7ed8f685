# SPDX-License-Identifier: Apache-2.0
"""Build tempest.conf from what the cloud reports and what the driver supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.verify.tempest.model import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dockstack.verify.tempest.model import Credentials, SignedImage, TempestFacts, VolumeFacts

Settings = dict[str, dict[str, str]]

SERVICES = {
    "cinder": "block-storage",
    "glance": "image",
    "neutron": "network",
    "nova": "compute",
    "swift": "object-store",
}
# What Nova's API does whatever the driver: Tempest has flags for it because older releases, or other configurations,
# differ.
API_FLAGS = ("disk_config", "enable_instance_password", "hostname_fqdn_sanitization")
# What our clouds, and DevStack's, let a tenant ask of the scheduler.
SCHEDULER_FILTERS = (
    "ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,"
    "ServerGroupAffinityFilter,SameHostFilter,DifferentHostFilter"
)
OUR_FEATURES = {**dict.fromkeys(API_FLAGS, "true"), "scheduler_enabled_filters": SCHEDULER_FILTERS}
# What Docker hosts boot from. Tempest uploads random bytes in each of these formats, and Glance, which checks what it
# can recognise, has nothing to object to: its enforcement, which is on, refuses none of them.
IMAGES = {"container_formats": "bare,docker", "disk_formats": "raw"}
IMAGE_FEATURES = {"image_format_enforcement": "false"}
# What our backend of Cinder says of itself, and can besides what Tempest takes for granted.
OUR_VENDOR = "dockstack"
OUR_VOLUME_FEATURES = (
    "extend_attached_encrypted_volume",
    "extend_attached_volume",
    "manage_snapshot",
    "manage_volume",
)
# 2026.2's services check a token's scope, and use the new default roles; placement has it as the others.
SCOPED = ("glance", "keystone", "neutron", "nova", "placement")


def build(facts: TempestFacts, flags: Mapping[str, bool], directory: Path) -> Settings:
    """Build Tempest's settings: section -> option -> value.

    Args:
        facts: what the cloud says.
        flags: of [compute-feature-enabled], as the driver's support matrix decides.
        directory: where Tempest keeps its locks.
    """
    of_any = of_docker(flags)
    settings = {
        **of_any,
        "DEFAULT": {"resource_name_prefix": PREFIX, "debug": "false", "use_stderr": "false"},
        "oslo_concurrency": {"lock_path": str(directory / "locks")},
        "auth": _auth(facts.admin),
        "identity": _identity(facts.admin),
        "enforce_scope": dict.fromkeys(SCOPED, "true"),
        "service_available": {name: _truth(kind in facts.services) for name, kind in SERVICES.items()}
        | {"horizon": "false"},
        "compute": _compute(facts) | of_any["compute"],
        "compute-feature-enabled": of_any["compute-feature-enabled"] | OUR_FEATURES,
        "placement": _versions(facts.placement_versions),
        "network": _network(facts),
        "network-feature-enabled": _network_features(facts),
        "validation": {
            "run_validation": "true",
            "image_ssh_user": facts.login_user,
            "image_alt_ssh_user": facts.login_user,
            "connect_method": "floating",
            "ping_timeout": "60",
            "ssh_timeout": "120",
        },
        "scenario": of_any["scenario"] | {"img_file": str(facts.image_file)},
    }
    settings |= _volumes(facts.volumes) if facts.volumes else {}
    return {name: dict(sorted(options.items())) for name, options in settings.items()}


def of_signed_image(settings: Settings, signed: SignedImage | None) -> Settings:
    """Return the settings of the test that boots a signed image; without one, Tempest skips it and says why."""
    if signed is None:
        return settings
    accounts = {"use_dynamic_credentials": "false", "test_accounts_file": str(signed.accounts)}
    certified = {
        "certified_image_ref": signed.image,
        "certified_image_trusted_certs": signed.certificate,
    }
    return settings | {"auth": settings["auth"] | accounts, "compute": settings["compute"] | certified}


def of_docker(flags: Mapping[str, bool]) -> Settings:
    """Return what holds in every cloud whose servers are Docker's, whoever made it.

    Args:
        flags: of [compute-feature-enabled], as the driver's support matrix decides.
    """
    return {
        "compute": {"hypervisor_type": "docker"},
        "compute-feature-enabled": {name: _truth(value) for name, value in sorted(flags.items())},
        "image": dict(IMAGES),
        "image-feature-enabled": dict(IMAGE_FEATURES),
        "scenario": {"img_disk_format": "raw", "img_container_format": "docker", "dhcp_client": "udhcpc"},
    }


def render(settings: Settings) -> str:
    """Write settings as oslo.config reads them; "$" would begin a reference."""
    lines = ["# Made by `dockstack tempest`; changes are overwritten."]
    for section, options in settings.items():
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {value.replace('$', '$$')}" for name, value in options.items()]
    return "\n".join(lines) + "\n"


def _auth(admin: Credentials) -> dict[str, str]:
    return {
        "use_dynamic_credentials": "true",
        "create_isolated_networks": "true",
        "admin_username": admin.username,
        "admin_password": admin.password,
        "admin_project_name": admin.project,
        "admin_user_domain_name": admin.user_domain,
        "admin_project_domain_name": admin.project_domain,
        "admin_domain_name": admin.user_domain,
        "admin_system": "all",
    }


def _identity(admin: Credentials) -> dict[str, str]:
    options = {"uri_v3": admin.auth_url, "region": admin.region, "v3_endpoint_type": "public"}
    return options | ({"ca_certificates_file": admin.ca_file} if admin.ca_file else {})


def _compute(facts: TempestFacts) -> dict[str, str]:
    return _versions(facts.compute_versions) | {
        "image_ref": facts.image,
        "image_ref_alt": facts.image_alternative,
        "flavor_ref": facts.flavor,
        "flavor_ref_alt": facts.flavor_alternative,
        "min_compute_nodes": str(len(facts.hosts)),
        "build_timeout": "180",
        **_migration(facts.hosts),
    }


def _migration(hosts: tuple[str, ...]) -> dict[str, str]:
    """Return the source and destination host of tests that migrate by name."""
    if len(hosts) == 1:
        return {}
    source, destination, *_ = hosts
    return {"migration_source_host": source, "migration_dest_host": destination}


def _versions(versions: tuple[str, str]) -> dict[str, str]:
    return {"min_microversion": versions[0], "max_microversion": versions[1]}


def _network(facts: TempestFacts) -> dict[str, str]:
    if facts.external_network is None:
        return {}
    return {"public_network_id": facts.external_network[0], "floating_network_name": facts.external_network[1]}


def _network_features(facts: TempestFacts) -> dict[str, str]:
    return {
        "api_extensions": ",".join(facts.extensions),
        "ipv6_subnet_attributes": "true",
        "port_security": _truth("port-security" in facts.extensions),
        "floating_ips": _truth(facts.external_network is not None),
        "update_port_qos": _truth("qos" in facts.extensions),
    } | ({"qos_placement_physnet": facts.guaranteed_network} if facts.guaranteed_network else {})


def _volumes(facts: VolumeFacts) -> Settings:
    """Return what Tempest must know of Cinder; a backend of ours takes files of its pool by their names."""
    ours = _truth(facts.vendor == OUR_VENDOR)
    return {
        "volume": {
            **_versions(facts.versions),
            "catalog_type": "block-storage",
            "vendor_name": facts.vendor,
            "storage_protocol": facts.protocol,
            "volume_type_multiattach": facts.multiattach_type or "",
            "manage_snapshot_ref": "source-name,snapshot-%s",
        },
        "volume-feature-enabled": dict.fromkeys(OUR_VOLUME_FEATURES, ours),
    }


def _truth(value: bool) -> str:
    return "true" if value else "false"
