# SPDX-License-Identifier: Apache-2.0
"""What an exercise may need, how long it may wait, what is known of the cloud, and an exercise's result."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "dockstack-verify-"


class Verdict(StrEnum):
    """How an exercise ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Capability(StrEnum):
    """What a cloud, its image or this machine can do; an exercise names those that it needs."""

    GUEST = "guest"  # servers really run: the hypervisor is not Nova's fake one
    LOGIN = "login"  # the image lets its user log in by SSH
    DOCKER = "docker"  # servers are containers of an engine
    FLOATING_IP = "floating-ip"  # an external network is routed to the tenant's
    IPV6 = "ipv6"  # the tenant's network has an IPv6 subnet
    ADMIN = "admin"  # we may make projects and see every project's servers
    SYSTEM = "system"  # it has an image of a whole Debian system
    REGISTRY = "registry"  # images can be pushed to it
    VOLUMES = "volumes"  # it has Cinder
    KEY_MANAGER = "key-manager"  # it has Barbican
    HOST = "host"  # we are root on the cloud's only compute node


class CheckFailed(DockstackError):  # noqa: N818 - a check fails; it is no fault of the program
    """The cloud did not do what it promises."""


@dataclass(frozen=True)
class Result:
    """What an exercise came to."""

    name: str
    title: str
    verdict: Verdict
    seconds: float
    reason: str = ""  # one line: why it failed or was skipped
    resolution: str = ""
    evidence: tuple[str, ...] = ()  # faults, console tails, where to look

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self) | {"verdict": self.verdict.value, "seconds": round(self.seconds, 2)}


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds; ACTIVE_TIMEOUT and TERMINATE_TIMEOUT are DevStack's names."""

    active: float = 60
    terminate: float = 60
    associate: float = 30
    answer: float = 60  # until ping or SSH answers
    command: float = 30  # one command inside a server
    silence: float = 6  # how long nothing may come through before we call it denied

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Timeouts:
        """Let the environment override, as DevStack's exercises do.

        Raises:
            DockstackError: a value is not a positive number.
        """
        values = os.environ if environment is None else environment
        names = {"active": "ACTIVE_TIMEOUT", "terminate": "TERMINATE_TIMEOUT", "associate": "ASSOCIATE_TIMEOUT"}
        found: dict[str, float] = {}
        for attribute, name in names.items():
            if name in values:
                found[attribute] = positive_seconds(name, values[name])
        return cls(**found)


def positive_seconds(name: str, text: str) -> float:
    """Read a time-out."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise DockstackError(
            f"{name}={text!r} is no time in seconds.", f"Set {name} to a positive number, or unset it."
        )
    return seconds


@dataclass(frozen=True)
class SystemImage:
    """An image of a whole system, with systemd and cloud-init, and a flavor that it boots in."""

    image_id: str
    flavor_id: str


@dataclass(frozen=True)
class CloudFacts:
    """What the cloud offers, found once before the exercises.

    Attributes:
        missing: for each capability that is not there, the reason in words.
        system: None if that capability is missing.
    """

    hypervisors: tuple[str, ...]
    image_id: str
    image_name: str
    flavor_id: str
    flavor_name: str
    flavor_memory_mb: int
    flavor_vcpus: int
    network_id: str
    network_name: str
    external_network_id: str | None
    login_user: str
    missing: Mapping[Capability, str] = field(default_factory=dict)
    system: SystemImage | None = None

    def why_not(self, needs: frozenset[Capability]) -> str:
        """Return why these needs are not met; empty if they are."""
        return "; ".join(self.missing[need] for need in sorted(needs) if need in self.missing)
