# SPDX-License-Identifier: Apache-2.0
"""What Nova has of one compute host: its service, its servers, their moves; and what may be changed of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockstack.deploy.administration.api import ConflictError, NotThereError
from dockstack.errors import DockstackError
from dockstack.names import AGGREGATE_PROPERTIES
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from dockstack.deploy.administration.api import Cloud

# nova/db/main/api.py:migration_get_in_progress_by_host_and_node
ENDED = frozenset({"confirmed", "reverted", "error", "failed", "completed", "cancelled", "done"})
# Later ones ask nova-compute itself for its uptime: of one that has just ended, the answer would be a timeout.
WITHOUT_UPTIME = "2.87"
REASON_LIMIT = 255  # of Nova's column


@dataclass(frozen=True)
class ComputeService:
    """A host's nova-compute as the API tells of it."""

    id: str
    host: str
    enabled: bool
    up: bool
    forced_down: bool
    reason: str
    zone: str
    reported: str

    @property
    def state(self) -> str:
        """In words, as `openstack compute service list` has them."""
        return f"{'up' if self.up else 'down'}, {'enabled' if self.enabled else 'disabled'}"


@dataclass(frozen=True)
class Server:
    """A server, as far as it matters where it is."""

    id: str
    name: str
    status: str
    task: str | None
    host: str | None
    fault: str = ""

    @property
    def label(self) -> str:
        """How a person finds it: names are not unique."""
        return f"{self.name} ({self.id})"


@dataclass(frozen=True)
class Move:
    """A migration or resize that has not ended."""

    id: str
    server: str
    kind: str
    status: str
    source: str
    destination: str


def service(cloud: Cloud, host: str) -> ComputeService | None:
    """Return a host's compute service, None if the cloud has none."""
    query = {"host": host, "binary": "nova-compute"}
    found = [_service(each) for each in cloud.compute.call("GET", "/os-services", query=query)["services"]]
    return next((each for each in found if each.host == host), None)


def required(cloud: Cloud, host: str) -> ComputeService:
    """Return a host's compute service.

    Raises:
        DockstackError: the cloud has none.
    """
    found = service(cloud, host)
    if found is None:
        raise DockstackError(
            f"The cloud {cloud.name!r} knows no compute host {host}.",
            "Is it the cloud that this node has joined? `openstack compute service list` shows its hosts; "
            "--os-cloud names another.",
        )
    return found


def reports_anew(cloud: Cloud, host: str, seconds: float, every: float) -> bool:
    """Wait for a report of a host's nova-compute that is newer than what the cloud has heard; tell whether one came.

    One that somebody has forced down stays so, whatever it reports.

    Args:
        cloud: the cloud.
        host: what Nova calls it.
        seconds: how long.
        every: seconds between two looks.
    """
    heard = required(cloud, host).reported

    def hears_anew() -> bool:
        service = required(cloud, host)
        return (service.up or service.forced_down) and service.reported != heard

    return bool(wait_for(hears_anew, seconds, every))


def _service(plain: dict[str, Any]) -> ComputeService:
    return ComputeService(
        id=str(plain["id"]),
        host=plain["host"],
        enabled=plain.get("status") == "enabled",
        up=plain.get("state") == "up",
        forced_down=bool(plain.get("forced_down")),
        reason=plain.get("disabled_reason") or "",
        zone=plain.get("zone") or "",
        reported=plain.get("updated_at") or "",
    )


def disable(cloud: Cloud, found: ComputeService, reason: str) -> None:
    """Have nothing more be placed on a host."""
    _put(cloud, found, {"status": "disabled", "disabled_reason": reason[:REASON_LIMIT]})


def enable(cloud: Cloud, found: ComputeService) -> None:
    """Let servers be placed on a host."""
    _put(cloud, found, {"status": "enabled"})


def force_down(cloud: Cloud, found: ComputeService) -> None:
    """Have Nova take a host for dead, before it finds that out by itself."""
    _put(cloud, found, {"forced_down": True})


def delete(cloud: Cloud, found: ComputeService) -> None:
    """Delete a service; Nova takes its provider, its mapping to a cell and its place in aggregates along.

    Raises:
        ConflictError: there are servers or moves on it.
    """
    try:
        cloud.compute.call("DELETE", f"/os-services/{found.id}")
    except NotThereError:
        return


def _put(cloud: Cloud, found: ComputeService, change: dict[str, Any]) -> None:
    cloud.compute.call("PUT", f"/os-services/{found.id}", change)


def is_mapped(cloud: Cloud, host: str) -> bool:
    """Tell whether a host is mapped to a cell: a hypervisor is listed only then."""
    query = {"hypervisor_hostname_pattern": host}
    try:
        found = cloud.compute.call("GET", "/os-hypervisors/detail", query=query, version=WITHOUT_UPTIME)
    except NotThereError:
        return False
    return any(each["service"]["host"] == host for each in found["hypervisors"])


def servers(cloud: Cloud, host: str) -> list[Server]:
    """Return the servers on a host, of all projects, by their names."""
    query = {"all_tenants": "1", "host": host}
    found = [_server(each) for each in cloud.compute.pages("/servers/detail", "servers", query)]
    return sorted((each for each in found if each.host == host), key=lambda each: (each.name, each.id))


def server(cloud: Cloud, server_id: str) -> Server | None:
    """Return one server, None if it is gone."""
    try:
        return _server(cloud.compute.call("GET", f"/servers/{server_id}")["server"])
    except NotThereError:
        return None


def _server(plain: dict[str, Any]) -> Server:
    return Server(
        id=str(plain["id"]),
        name=str(plain.get("name", "")),
        status=str(plain["status"]),
        task=plain.get("OS-EXT-STS:task_state"),
        host=plain.get("OS-EXT-SRV-ATTR:host"),
        fault=str((plain.get("fault") or {}).get("message", "")),
    )


def act(cloud: Cloud, server_id: str, action: str) -> None:
    """Ask for an action without arguments: migrate, confirmResize, revertResize, shelveOffload."""
    cloud.compute.call("POST", f"/servers/{server_id}/action", {action: None})


def moves(cloud: Cloud, host: str) -> list[Move]:
    """Return the moves that have not ended, from a host or to it."""
    found = cloud.compute.pages("/os-migrations", "migrations", {"host": host})
    return [
        Move(
            id=str(each["uuid"]),
            server=str(each["instance_uuid"]),
            kind=str(each.get("migration_type")),
            status=str(each["status"]),
            source=str(each.get("source_compute")),
            destination=str(each.get("dest_compute")),
        )
        for each in found
        if each["status"] not in ENDED and host in {each.get("source_compute"), each.get("dest_compute")}
    ]


def why_not(cloud: Cloud, server_id: str, action: str) -> str | None:
    """Return what Nova wrote down of the last such action of a server that came to nothing, "" if nothing.

    None while one of the action's events has not ended: Nova lets go of a server before it writes down what failed.
    """
    actions = f"/servers/{server_id}/os-instance-actions"
    try:
        listed = cloud.compute.call("GET", actions)["instanceActions"]
        last = next((each for each in listed if each["action"] == action), None)
        if last is None:
            return ""
        events = cloud.compute.call("GET", f"{actions}/{last['request_id']}")["instanceAction"].get("events", ())
    except NotThereError:
        return ""
    told = next((each["details"] for each in events if each.get("result") == "Error" and each.get("details")), None)
    if told is None and any(each.get("result") is None for each in events):
        return None
    return str(told or "")


def aggregates(cloud: Cloud, host: str) -> list[tuple[str, str]]:
    """Return id and name of the aggregates that a host is in."""
    found = cloud.compute.call("GET", "/os-aggregates")["aggregates"]
    return [(str(each["id"]), str(each["name"])) for each in found if host in each["hosts"]]


def join_aggregate(cloud: Cloud, name: str, host: str) -> bool:
    """Have a host in an aggregate, made if it is missing; return whether it was not in it before.

    An aggregate that is there keeps its properties.
    """
    listed = cloud.compute.call("GET", "/os-aggregates")["aggregates"]
    found = next((each for each in listed if each["name"] == name), None) or _make_aggregate(cloud, name)
    if host in found["hosts"]:
        return False
    action = f"/os-aggregates/{found['id']}/action"
    if not found["hosts"] and not found["metadata"]:  # new, or left so by a command that was killed
        cloud.compute.call("POST", action, {"set_metadata": {"metadata": AGGREGATE_PROPERTIES}})
    with suppress(ConflictError):  # it has come there by now
        cloud.compute.call("POST", action, {"add_host": {"host": host}})
    return True


def _make_aggregate(cloud: Cloud, name: str) -> dict[str, Any]:
    """Make one, unless somebody else does so at this moment."""
    try:
        made = cloud.compute.call("POST", "/os-aggregates", {"aggregate": {"name": name}})["aggregate"]
    except ConflictError:
        listed = cloud.compute.call("GET", "/os-aggregates")["aggregates"]
        return dict(next(each for each in listed if each["name"] == name))
    return {"hosts": [], "metadata": {}, **made}


def leave_aggregate(cloud: Cloud, aggregate_id: str, host: str) -> None:
    """Take a host out of an aggregate."""
    cloud.compute.call("POST", f"/os-aggregates/{aggregate_id}/action", {"remove_host": {"host": host}})
