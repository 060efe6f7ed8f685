# SPDX-License-Identifier: Apache-2.0
"""An exercise, and what it is run with: connection, facts of the cloud, an undo stack, and where to report progress."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockstack.verify.model import PREFIX, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.verify.model import Capability, CloudFacts


@dataclass(frozen=True)
class Tenant:
    """The project's connection and networks with which servers are made."""

    connection: Any
    network_id: str
    external_network_id: str | None


@dataclass
class Context:
    """One exercise's view of the cloud; its stack takes back all that the exercise makes.

    Attributes:
        seen: (connection, server id) of each server made: what a diagnosis looks at after a failure.
    """

    connection: Any
    facts: CloudFacts
    exercise: str
    say: Callable[[str], None]
    timeouts: Timeouts = field(default_factory=Timeouts)
    stack: ExitStack = field(default_factory=ExitStack)
    seen: list[tuple[Any, str]] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def tenant(self) -> Tenant:
        """The tenant that the cloud's credentials are for."""
        return Tenant(self.connection, self.facts.network_id, self.facts.external_network_id)

    def name(self, what: str) -> str:
        """Name a resource, so that a later run finds it if this one is killed."""
        return f"{PREFIX}{self.exercise}-{what}-{self.token}"


@dataclass(frozen=True)
class Exercise:
    """One promise of the cloud and the steps that prove it.

    Attributes:
        name: what ``--only`` takes and the table shows.
        title: the promise, as a sentence.
        run: the steps; raises ``CheckFailed`` (or any error of the SDK) if the promise is not kept.
        needs: capabilities without which the exercise is skipped.
    """

    name: str
    title: str
    run: Callable[[Context], None]
    needs: frozenset[Capability] = frozenset()
