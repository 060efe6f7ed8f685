# SPDX-License-Identifier: Apache-2.0
"""A flavor's extra specs about safety. Nothing else may say how closely a server is kept."""

from __future__ import annotations

from typing import Any

from nova import exception
from oslo_utils import strutils

from dockstack.compute import extra_specs
from dockstack.compute.model import Confinement

NO_NEW_PRIVILEGES_SPEC = extra_specs.NO_NEW_PRIVILEGES


def build_confinement(instance: Any) -> Confinement:
    """Read how closely a server's flavor has it kept.

    What cannot be read counts as its safer value: a server must stay deletable whatever its flavor says, and
    ``refuse_unreadable`` keeps it from being built.

    Args:
        instance: a ``nova.objects.Instance``.
    """
    specs = _specs(instance)
    return Confinement(no_new_privileges=_truth(specs.get(NO_NEW_PRIVILEGES_SPEC, "false"), unreadable=True))


def refuse_unreadable(instance: Any) -> None:
    """Refuse a flavor whose extra specs about safety say nothing that we understand.

    Raises:
        exception.BuildAbortException: naming the extra spec; another host would refuse too.
    """
    text = _specs(instance).get(NO_NEW_PRIVILEGES_SPEC, "false")
    if _truth(text, unreadable=True) != _truth(text, unreadable=False):
        reason = f"the flavor's {NO_NEW_PRIVILEGES_SPEC} must be true or false, but it is {text!r}. Choose another one."
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason)


def _specs(instance: Any) -> dict[str, str]:
    flavor = instance.flavor
    return dict(flavor.extra_specs) if "extra_specs" in flavor else {}


def _truth(text: str, *, unreadable: bool) -> bool:
    return bool(strutils.bool_from_string(text, default=unreadable))
