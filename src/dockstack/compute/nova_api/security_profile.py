# SPDX-License-Identifier: Apache-2.0
"""A flavor's extra specs about safety. Nothing else may say how closely a server is kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nova.conf
from nova import exception
from oslo_utils import strutils

from dockstack.compute import extra_specs
from dockstack.compute.model import Confinement

if TYPE_CHECKING:
    from collections.abc import Mapping

CONF = nova.conf.CONF

_CAPABILITY = re.compile(extra_specs.CAPABILITY)
_DEVICE = re.compile(extra_specs.DEVICE)


def build_confinement(instance: Any) -> Confinement:
    """Read how closely a server's flavor has it kept.

    What cannot be read counts as its safer value: a server must stay deletable whatever its flavor says, and
    ``refuse_unreadable`` keeps it from being built.

    Args:
        instance: a ``nova.objects.Instance``.
    """
    specs = _specs(instance)
    return Confinement(
        no_new_privileges=_truth(specs.get(extra_specs.NO_NEW_PRIVILEGES, "false"), unreadable=True),
        privileged=_truth(specs.get(extra_specs.PRIVILEGED, "false"), unreadable=False),
        cap_add=_capabilities(specs, extra_specs.CAP_ADD),
        cap_drop=_capabilities(specs, extra_specs.CAP_DROP),
        devices=_list(specs, extra_specs.DEVICES),
        runtime=specs.get(extra_specs.RUNTIME, "").strip(),
        volume_mounts=_volume_mounts(specs),
    )


def refuse_unreadable(instance: Any) -> None:
    """Refuse a flavor whose extra specs about safety say nothing that we understand, or what the operator forbids.

    Raises:
        exception.BuildAbortException: naming the extra spec; another host would refuse too.
    """
    specs, found = _specs(instance), build_confinement(instance)
    for name in (extra_specs.NO_NEW_PRIVILEGES, extra_specs.PRIVILEGED):
        text = specs.get(name, "false")
        if _truth(text, unreadable=True) != _truth(text, unreadable=False):
            _refuse(instance, f"the flavor's {name} must be true or false, but it is {text!r}")
    for name, values, pattern, meaning in (
        (extra_specs.CAP_ADD, found.cap_add, _CAPABILITY, "capabilities such as NET_ADMIN"),
        (extra_specs.CAP_DROP, found.cap_drop, _CAPABILITY, "capabilities such as NET_RAW"),
        (extra_specs.DEVICES, found.devices, _DEVICE, "device nodes such as /dev/fuse"),
    ):
        for value in values:
            if not pattern.fullmatch(value):
                _refuse(instance, f"the flavor's {name} must list {meaning}, with commas between, but has {value!r}")
    wished = specs.get(extra_specs.VOLUME_MOUNTS, extra_specs.MOUNT_POLICIES[0])
    if wished not in extra_specs.MOUNT_POLICIES:
        choices = " or ".join(extra_specs.MOUNT_POLICIES)
        _refuse(instance, f"the flavor's {extra_specs.VOLUME_MOUNTS} must be {choices}, but it is {wished!r}")
    if found.runtime and found.runtime not in CONF.docker.allowed_runtimes:
        allowed = ", ".join(CONF.docker.allowed_runtimes) or "none"
        _refuse(
            instance,
            f"the flavor's {extra_specs.RUNTIME} is {found.runtime!r}, but [docker] allowed_runtimes has {allowed}",
        )


def _refuse(instance: Any, reason: str) -> None:
    raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=f"{reason}. Choose another flavor.")


def _specs(instance: Any) -> dict[str, str]:
    flavor = instance.flavor
    return dict(flavor.extra_specs) if "extra_specs" in flavor else {}


def _volume_mounts(specs: Mapping[str, str]) -> str:
    """Return the narrower of what the host and the flavor allow."""
    policies = extra_specs.MOUNT_POLICIES
    allowed = str(CONF.docker.volume_mounts)
    wished = specs.get(extra_specs.VOLUME_MOUNTS, allowed)
    return min(allowed, wished, key=policies.index) if wished in policies else policies[0]


def _truth(text: str, *, unreadable: bool) -> bool:
    return bool(strutils.bool_from_string(text, default=unreadable))


def _capabilities(specs: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.upper().removeprefix("CAP_") for word in _list(specs, name))


def _list(specs: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word for text in specs.get(name, "").split(",") if (word := text.strip()))
