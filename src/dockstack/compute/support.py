# SPDX-License-Identifier: Apache-2.0
"""What the driver supports, as data: for the documentation, for Tempest's flags, and compared with the driver itself.

Imports nothing of Nova, so that the command line can read it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = "support.toml"
EXTRA_PREFIX = "extra."


class Status(StrEnum):
    """How well a feature is supported, in the words of Nova's matrix."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    MISSING = "missing"


@dataclass(frozen=True)
class Feature:
    """One row.

    Attributes:
        key: Nova's name of the row; what its matrix has no row for starts with "extra.".
        title: for people.
        status: how well it is supported.
        notes: how it is done, or why it is not.
        methods: the driver's own methods exactly if the row is not missing.
        capabilities: the driver's, true exactly if the row is not missing.
        tempest: flags of [compute-feature-enabled] that this row decides on.
    """

    key: str
    title: str
    status: Status
    notes: str
    methods: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    tempest: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether it can be used at all."""
        return self.status is not Status.MISSING

    @property
    def is_novas(self) -> bool:
        """Whether Nova's matrix has this row."""
        return not self.key.startswith(EXTRA_PREFIX)


def load() -> tuple[Feature, ...]:
    """Read all rows, in their order."""
    text = (resources.files("dockstack.compute") / SOURCE).read_text()
    return tuple(_feature(key, row) for key, row in tomllib.loads(text).items())


def tempest_flags(features: Iterable[Feature]) -> dict[str, bool]:
    """Decide Tempest's [compute-feature-enabled]: a flag is on if no row that names it is missing."""
    flags: dict[str, bool] = {}
    for feature in features:
        for flag in feature.tempest:
            flags[flag] = flags.get(flag, True) and feature.supported
    return dict(sorted(flags.items()))


def _feature(key: str, row: dict[str, Any]) -> Feature:
    return Feature(
        key=key,
        title=row["title"],
        status=Status(row["status"]),
        notes=row["notes"],
        methods=tuple(row.get("methods", ())),
        capabilities=tuple(row.get("capabilities", ())),
        tempest=tuple(row.get("tempest", ())),
    )
