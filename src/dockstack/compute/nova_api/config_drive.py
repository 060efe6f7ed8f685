# SPDX-License-Identifier: Apache-2.0
"""What Nova writes on a server's config drive."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nova.api.metadata import base as instance_metadata
from nova.virt import configdrive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.compute.model import InjectedFile


def find_drive(
    instance: Any, network_info: Any, files: Iterable[InjectedFile] = (), admin_password: str | None = None
) -> Callable[[], dict[str, bytes]] | None:
    """Return what reads the drive's content, by path; None if neither request, image nor option asks for a drive.

    Args:
        instance: a ``nova.objects.Instance``.
        network_info: a ``nova.network.model.NetworkInfo``; reading it waits for Neutron's allocation.
        files: what the request came with, for the server's own tools to place.
        admin_password: the password that Nova made for it, if any.
    """
    if not configdrive.required_by(instance):
        return None
    return partial(_build_drive, instance, network_info, files, admin_password)


def _build_drive(
    instance: Any, network_info: Any, files: Iterable[InjectedFile], admin_password: str | None
) -> dict[str, bytes]:
    content = instance_metadata.InstanceMetadata(
        instance,
        content=[(file.path, file.content) for file in files],
        extra_md={"admin_pass": admin_password} if admin_password else {},
        network_info=network_info,
    )
    return {path: _encode(data) for path, data in content.metadata_for_config_drive()}


def _encode(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)
