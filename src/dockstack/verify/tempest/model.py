# SPDX-License-Identifier: Apache-2.0
"""The facts of a cloud that Tempest is configured with, and the outcomes of its tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Of all that Tempest makes in our runs; what is named so, we may remove. No longer than the "tempest" that it stands
# for: Neutron takes no names of servers above 63 characters, and the longest of the tests' are near that.
PREFIX = "dstack"


class Verdict(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Credentials:
    """An administrator, who makes Tempest's projects and users."""

    auth_url: str
    username: str
    password: str = field(repr=False)
    project: str
    user_domain: str
    project_domain: str
    region: str
    ca_file: str | None = None


@dataclass(frozen=True)
class VolumeFacts:
    """What Tempest must know of a cloud's block storage.

    Attributes:
        versions: the oldest and the newest microversion of Cinder's API.
        vendor: who made the backend's driver, as that says, and by what its volumes are reached.
        protocol: see above.
        multiattach_type: the type of volumes that several servers may have, if there is one.
    """

    versions: tuple[str, str]
    vendor: str
    protocol: str
    multiattach_type: str | None


@dataclass(frozen=True)
class SignedImage:
    """An image with a signature, and who may read its certificate.

    Attributes:
        image: its id.
        certificate: the id of the certificate in the key manager.
        accounts: a file of Tempest's with the users of the image's project.
    """

    image: str
    certificate: str
    accounts: Path


@dataclass(frozen=True)
class TempestFacts:
    """What Tempest must know of a cloud.

    Attributes:
        admin: who makes projects and users.
        services: the types in the catalogue, by their official names ("block-storage").
        compute_versions: the oldest and the newest microversion of Nova's API; of Placement's likewise.
        placement_versions: see above.
        extensions: aliases of Neutron's.
        external_network: id and name of the network that floating IPs come from.
        guaranteed_network: the physical network on which ports may be guaranteed bandwidth, if hosts offer any.
        hosts: those whose hypervisors are up, as Nova names them, sorted.
        image: what servers boot from; its alternative has other content.
        image_alternative: see above.
        image_file: the former's data on this machine, compressed.
        flavor: and a larger one.
        flavor_alternative: see above.
        login_user: who may log in to the image.
        volumes: of Cinder, if there is one.
    """

    admin: Credentials
    services: frozenset[str]
    compute_versions: tuple[str, str]
    placement_versions: tuple[str, str]
    extensions: tuple[str, ...]
    external_network: tuple[str, str] | None
    guaranteed_network: str | None
    hosts: tuple[str, ...]
    image: str
    image_alternative: str
    image_file: Path
    flavor: str
    flavor_alternative: str
    login_user: str
    volumes: VolumeFacts | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of one test, or of the set-up of a class of tests.

    Attributes:
        name: its id, without tags.
        seconds: how long it took.
        text: why it was skipped, or the traceback and log of a failure.
        worker: which of the concurrent processes ran it.
    """

    name: str
    verdict: Verdict
    seconds: float
    text: str = ""
    worker: int = 0

    @property
    def reason(self) -> str:
        """The last line with content; of a traceback, the exception."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else ""
