# SPDX-License-Identifier: Apache-2.0
"""Our extra specs as Nova's API wants them (entry point nova.api.extra_spec_validators)."""

from __future__ import annotations

from typing import Any

from nova.api.validation.extra_specs import base

from dockstack.compute.extra_specs import OURS, ExtraSpec


def register() -> list[base.ExtraSpecValidator]:
    """Return a validator of each extra spec below ``docker:``; Nova then refuses other names there."""
    return [base.ExtraSpecValidator(name=spec.name, description=spec.help, value=_value(spec)) for spec in OURS]


def _value(spec: ExtraSpec) -> dict[str, Any]:
    if spec.kind is bool:
        return {"type": bool}
    if spec.kind is str:
        return {"type": str, "pattern": f"^{spec.pattern}$"}
    bounds = {"min": spec.minimum} | ({} if spec.maximum is None else {"max": spec.maximum})
    return {"type": int, **bounds}
