# SPDX-License-Identifier: Apache-2.0
"""Prove a host by a server that boots on exactly that one, while nothing else can be placed there.

The host is disabled. Nova lets an administrator name the host of a server, and skips its filters then; Placement
refuses all the same, for nova-compute has put a trait on the provider of a disabled host. That trait is taken away for
the moment of the boot. nova-compute puts it back within a minute, whatever becomes of us, and the scheduler passes over
the disabled service for everybody else in the meantime.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockstack.deploy.administration import hosts, providers
from dockstack.deploy.administration.api import NotThereError
from dockstack.errors import DockstackError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.administration.hosts import ComputeService, Server

PREFIX = "dockstack-proof"
SUBNET = "198.51.100.0/24"  # RFC 5737: of nobody, on a network of the test's own
MEMORY_MB = 64  # the smallest flavor that the base image runs well in
ACTIVE = 300.0  # seconds for the boot: the image is fetched for the first time
GONE = 120.0
POLL = 1.0
TRIES = 3  # nova-compute may have put the trait back in between


@dataclass(frozen=True)
class Proof:
    """What a test server is made of; one object for all hosts.

    Attributes:
        cloud: the cloud.
        image: name or id; "" means the first container image that is active.
        flavor: name or id; "" means the smallest.
    """

    cloud: Cloud
    image: str = ""
    flavor: str = ""

    def boot(self, service: ComputeService, tell: Callable[[str], None]) -> float:
        """Boot a server on a host, see it active there, and remove it; return the seconds until it was.

        Raises:
            DockstackError: it was not, or there is nothing to boot.
        """
        name = f"{PREFIX}-{service.host}"
        request = {
            "name": name,
            "availability_zone": f"{service.zone}:{service.host}",
            "imageRef": self._image(),
            "flavorRef": self._flavor(),
        }
        self._remove(name)  # what a killed run has left
        try:
            with self._network(name) as network:
                tell("Booting a test server on it")
                return self._booted(service, {**request, "networks": [{"uuid": network}]})
        finally:
            tell("Removing the test server")
            self._remove(name)

    def _booted(self, service: ComputeService, request: dict[str, Any]) -> float:
        for left in range(TRIES - 1, -1, -1):
            with self._let_in(service) as provider:
                began = time.monotonic()
                made = self.cloud.compute.call("POST", "/servers", {"server": request})["server"]
                server = self._settled(str(made["id"]))
                hidden = providers.has_trait(self.cloud, provider, providers.DISABLED)
            if server.status == "ACTIVE" and server.host == service.host:
                return time.monotonic() - began
            if server.host or not hidden or not left:
                raise _failure(service, server)
            self._remove_server(server.id)
        raise AssertionError  # the last try returns or raises

    @contextmanager
    def _let_in(self, service: ComputeService) -> Iterator[providers.Provider]:
        """Have Placement offer the host's resources, though its service is disabled."""
        provider = providers.provider(self.cloud, service.host)
        if provider is None:
            raise DockstackError(
                f"Placement knows no provider {service.host}.", "See the log of nova-compute there, and try again."
            )
        providers.set_trait(self.cloud, provider, providers.DISABLED, wanted=False)
        try:
            yield provider
        finally:
            if not service.enabled:
                providers.set_trait(self.cloud, provider, providers.DISABLED, wanted=True)

    def _settled(self, server_id: str) -> Server:
        def settled() -> Server | None:
            server = self._server(server_id)
            is_active = server.status == "ACTIVE" and server.task is None
            return server if is_active or server.status == "ERROR" else None

        return wait_for(settled, ACTIVE, POLL) or self._server(server_id)

    def _server(self, server_id: str) -> Server:
        server = hosts.server(self.cloud, server_id)
        if server is None:
            raise DockstackError("Somebody has deleted the test server.", "Run the command again.")
        return server

    @contextmanager
    def _network(self, name: str) -> Iterator[str]:
        """Have a network of the test's own, on which nobody's addresses are used up."""
        network = self.cloud.network.call("POST", "/networks", {"network": {"name": name}})["network"]["id"]
        subnet = {"network_id": network, "ip_version": 4, "cidr": SUBNET, "gateway_ip": None, "name": name}
        self.cloud.network.call("POST", "/subnets", {"subnet": subnet})
        yield str(network)

    def _remove(self, name: str) -> None:
        query = {"all_tenants": "1", "name": f"^{name}$"}
        for each in self.cloud.compute.call("GET", "/servers", query=query)["servers"]:
            if each["name"] == name:
                self._remove_server(str(each["id"]))
        for each in self.cloud.network.call("GET", "/networks", query={"name": name})["networks"]:
            for port in self.cloud.network.call("GET", "/ports", query={"network_id": each["id"]})["ports"]:
                if not port["device_owner"].startswith("network:"):  # Neutron's own go with the network
                    self._delete(f"/ports/{port['id']}")
            self._delete(f"/networks/{each['id']}")

    def _delete(self, path: str) -> None:
        try:
            self.cloud.network.call("DELETE", path)
        except NotThereError:
            return

    def _remove_server(self, server_id: str) -> None:
        try:
            self.cloud.compute.call("DELETE", f"/servers/{server_id}")
        except NotThereError:
            return
        if not wait_for(lambda: hosts.server(self.cloud, server_id) is None, GONE, POLL):
            raise DockstackError(
                f"The test server {server_id} is still there {GONE:.0f} s after its delete.",
                "See the log of nova-compute on its host, and run the command again.",
            )

    def _image(self) -> str:
        found = self.cloud.image.call("GET", "/images", query={"status": "active", "container_format": "docker"})
        fitting = [each for each in found["images"] if self.image in {"", each["name"], each["id"]}]
        if not fitting:
            raise DockstackError(
                f"The cloud has no container image {self.image}".rstrip() + " to prove a host with.",
                "Upload one (`dockstack image import`), or give --no-proof.",
            )
        return str(fitting[0]["id"])

    def _flavor(self) -> str:
        found = self.cloud.compute.call("GET", "/flavors/detail")["flavors"]
        fitting = [each for each in found if self.flavor in {each["name"], each["id"]}]
        if not self.flavor:
            fitting = [each for each in found if each["ram"] >= MEMORY_MB]
        if not fitting:
            raise DockstackError(
                f"The cloud has no flavor {self.flavor or f'of {MEMORY_MB} MB or more'}.",
                "Make one (openstack flavor create --ram 64 --disk 1 m1.nano), or give --no-proof.",
            )
        return str(min(fitting, key=lambda each: (each["ram"], each["vcpus"], each["disk"]))["id"])


def _failure(service: ComputeService, server: Server) -> DockstackError:
    state = f"it is {server.status}{f', {server.task}' if server.task else ''}"
    if server.host and server.host != service.host:
        state = f"it is on {server.host}"
    return DockstackError(
        f"The test server did not become active on {service.host}: {server.fault or state}",
        "The host stays disabled. See `dockstack logs nova-compute` there; then run the command again.",
    )
