# SPDX-License-Identifier: Apache-2.0
"""A cloud as an administrator sees it, each part asked for when the first check wants it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from openstack.exceptions import ForbiddenException

from dockstack.deploy.join.probes.releases import Microversion, microversion
from dockstack.errors import DockstackError
from dockstack.verify import cloud

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Service:
    """One of Nova's services, or one of Neutron's agents."""

    binary: str
    host: str
    up: bool
    enabled: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Server:
    """A server; ``idle`` is for how many seconds Nova has changed nothing of it."""

    id: str
    host: str
    status: str
    task: str
    idle: float


@dataclass(frozen=True)
class Image:
    """An image; ``hypervisor`` is its property img_hv_type."""

    id: str
    name: str
    container_format: str
    hypervisor: str


class Cloud:
    """One cloud of clouds.yaml; each question may raise a DockstackError that names who does not answer."""

    def __init__(self, name: str) -> None:
        """Connect.

        Raises:
            NoCloudError: there is no such cloud, or its account is no administrator's.
            DockstackError: it does not answer.
        """
        self.name = name
        self._connection = cloud.connect(name)
        try:
            next(iter(self._connection.compute.services()), None)
        except ForbiddenException as error:
            raise cloud.NoCloudError(
                f"The account of {name} in clouds.yaml is no administrator's.", "Name another with --os-cloud."
            ) from error
        self._seen: set[str] = set()

    def know_servers(self) -> frozenset[str]:
        """Return all servers that Nova knows now, and those that it knew when this was asked before.

        Asked before and after a look at hosts, it has every server that was seen there and not left over.
        """
        found = _ask("Nova", lambda: list(self._connection.compute.servers(details=False, all_projects=True)))
        self._seen |= {each.id for each in found}
        return frozenset(self._seen)

    @cached_property
    def servers(self) -> tuple[Server, ...]:
        """All servers."""
        found = _ask("Nova", lambda: list(self._connection.compute.servers(all_projects=True)))
        return tuple(
            Server(each.id, each.compute_host or "", each.status, each.task_state or "", _since(each.updated_at))
            for each in found
        )

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """Nova's services."""
        found = _ask("Nova", lambda: list(self._connection.compute.services()))
        return tuple(
            Service(each.binary, each.host, each.state == "up", each.status == "enabled", each.disabled_reason or "")
            for each in found
        )

    @cached_property
    def hypervisors(self) -> dict[str, str]:
        """The type of each host's hypervisor, by its name, in small letters."""
        found = _ask("Nova", lambda: list(self._connection.compute.hypervisors(details=True)))
        return {each.name: str(each.hypervisor_type).lower() for each in found}

    @cached_property
    def agents(self) -> tuple[Service, ...]:
        """Neutron's agents; those of OVN are its chassis."""
        found = _ask("Neutron", lambda: list(self._connection.network.agents()))
        return tuple(Service(each.agent_type, each.host, bool(each.is_alive)) for each in found)

    @cached_property
    def images(self) -> tuple[Image, ...]:
        """All images that servers may boot from."""
        found = _ask("Glance", lambda: list(self._connection.image.images(status="active")))
        return tuple(Image(each.id, each.name or "", each.container_format or "", _hypervisor(each)) for each in found)

    def claim_image(self, image: Image) -> None:
        """Say of an image that it is Docker's."""
        _ask("Glance", lambda: self._connection.image.update_image(image.id, img_hv_type="docker"))

    @cached_property
    def providers(self) -> frozenset[str]:
        """The names of Placement's resource providers."""
        return frozenset(
            each.name for each in _ask("Placement", lambda: list(self._connection.placement.resource_providers()))
        )

    @cached_property
    def largest_mtu(self) -> int:
        """The largest MTU of the networks that are tunnelled between hosts; 0 if there is none."""
        found = _ask("Neutron", lambda: list(self._connection.network.networks()))
        return max(
            (int(each.mtu or 0) for each in found if each.provider_network_type in {"geneve", "vxlan"}), default=0
        )

    @cached_property
    def microversion(self) -> Microversion:
        """The newest version of Nova's API, which tells its release."""
        return microversion(_ask("Nova", self._connection.compute.get_endpoint_data).max_microversion)


def _ask(service: str, question: Callable[[], Answer]) -> Answer:
    try:
        return question()
    except cloud.TROUBLE as error:
        raise DockstackError(
            f"{service} does not answer: {error}", "See `dockstack status` and `dockstack logs` on a controller."
        ) from error


def _hypervisor(image: Any) -> str:
    return str(image.hypervisor_type or (image.properties or {}).get("img_hv_type") or "")


def _since(text: str | None) -> float:
    if not text:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
