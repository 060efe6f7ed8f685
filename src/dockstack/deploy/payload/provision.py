# SPDX-License-Identifier: Apache-2.0
"""Make what a cloud holds: accounts, endpoints, limits, flavors, networks; for the controller and the services' Python.

One process, a few requests, no client library that takes seconds to load. The desired state comes as JSON on standard
input, because it holds passwords; what was made is printed line by line. Each thing is looked for before it is made, so
the program can run at any time.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

Json = dict[str, Any]

READY_POLL = 0.5
REQUEST_TIMEOUT = 120
NAMED_SERVERS = 5
AUTOMATIC_PREFIX = 26  # 64 addresses a project
MICROVERSION = "compute 2.53"  # services go by uuid from here on


class Api:
    """One service of the catalogue, as the administrator sees it."""

    def __init__(self, session: Session, service_type: str, prefix: str = "") -> None:
        """Use the internal endpoint; ``prefix`` is a version that the endpoint does not name."""
        self._session = session
        self._filter = {"service_type": service_type, "interface": "internal"}
        self._prefix = prefix

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: dict[str, str] | None = None,
        version: str = "",
    ) -> Json:
        """Send one request and return the answer's JSON, empty if there is none.

        Args:
            method: of HTTP.
            path: below the endpoint, without a query.
            body: sent as JSON.
            query: names and values as they are; whatever a value holds, it stays one value.
            version: of the API, as OpenStack-API-Version has it.

        Raises:
            keystoneauth1.exceptions.HttpError: the service refused.
        """
        answer = self._session.request(
            f"{self._prefix}{path}?{urllib.parse.urlencode(query)}" if query else self._prefix + path,
            method,
            endpoint_filter=self._filter,
            json=body,
            headers={"OpenStack-API-Version": version} if version else {},
        )
        return dict(answer.json()) if answer.content else {}

    def one(self, collection: str, path: str | None = None, **query: str) -> Json | None:
        """Return the only member that fits a query, or None."""
        found = self.call("GET", path or f"/{collection}", query=query)[collection]
        return dict(found[0]) if found else None

    def ensure(self, kind: str, values: Json, *, path: str = "", **query: str) -> Json:
        """Return the member that fits the query, made from ``values`` if there is none."""
        collection = path or f"{kind}s"
        present = self.one(collection, f"/{collection}", **query)
        if present is not None:
            return present
        made(kind, str(values.get("name", "")))
        return dict(self.call("POST", f"/{collection}", {kind: values})[kind])


def made(kind: str, name: str) -> None:
    """Tell that something came to be."""
    print(f"made {kind} {repr(name)[1:-1]}".rstrip(), flush=True)  # one line, whatever the name holds


def connect(desired: Json) -> Session:
    """Return a session of the administrator."""
    auth = v3.Password(
        auth_url=desired["auth_url"],
        username="admin",
        password=desired["admin_password"],
        project_name="admin",
        user_domain_id="default",
        project_domain_id="default",
    )
    return Session(auth=auth, timeout=REQUEST_TIMEOUT, verify=desired.get("authority", True))


# -- identity ---------------------------------------------------------------------------------------------------------


def provide_identity(desired: Json) -> None:
    """Make services' accounts and the catalogue, and the tenant that a new cloud has, if there shall be one."""
    keystone = Api(connect(desired), "identity")
    roles = _ids(keystone, "roles", {})
    service_project = keystone.ensure("project", {"name": "service", "domain_id": "default"}, name="service")
    for name, password in desired["accounts"].items():
        user = _user(keystone, name, password)
        _grant(keystone, service_project["id"], user["id"], [roles["service"], roles["admin"]])
    for service in desired["services"]:
        _endpoints(keystone, service, desired["region"])
    if "tenant" not in desired:
        return
    tenant = desired["tenant"]
    project = keystone.ensure("project", {"name": tenant["project"], "domain_id": "default"}, name=tenant["project"])
    user = _user(keystone, tenant["user"], tenant["password"], ours=False)
    _grant(keystone, project["id"], user["id"], [roles["member"], roles["reader"]])


def _user(keystone: Api, name: str, password: str, *, ours: bool = True) -> Json:
    """Return a user, made if it is missing; a service's has the password of its configuration, always.

    A person's own is theirs: what was changed since it was made stays.
    """
    present = keystone.one("users", name=name, domain_id="default")
    if present is None:
        made("user", name)
        desired = {"name": name, "password": password, "domain_id": "default"}
        return dict(keystone.call("POST", "/users", {"user": desired})["user"])
    if ours:
        keystone.call("PATCH", f"/users/{present['id']}", {"user": {"password": password}})
    return present


def provide_people(desired: Json) -> None:
    """Make roles, projects, groups and users that are missing, and grant what they shall have; more is left to them."""
    keystone = Api(connect(desired), "identity")
    domain = {"domain_id": "default"}
    for name in desired["roles"]:
        keystone.ensure("role", {"name": name}, name=name)
    for kind in ("project", "group"):
        for name in desired[f"{kind}s"]:
            keystone.ensure(kind, {"name": name, **domain}, name=name, **domain)
    for name, password in desired["users"].items():
        _user(keystone, name, password, ours=False)
    ids = {kind: _ids(keystone, f"{kind}s", domain) for kind in ("project", "group", "user")}
    roles = _ids(keystone, "roles", {})
    for grant in desired["grants"]:
        where = "/system"
        if "project" in grant:
            where = f"/projects/{ids['project'][grant['project']]}"
        elif "domain" in grant:
            where = f"/domains/{grant['domain']}"
        kind = "user" if "user" in grant else "group"
        keystone.call("PUT", f"{where}/{kind}s/{ids[kind][grant[kind]]}/roles/{roles[grant['role']]}")


def _ids(keystone: Api, collection: str, query: dict[str, str]) -> dict[str, str]:
    return {each["name"]: each["id"] for each in keystone.call("GET", f"/{collection}", query=query)[collection]}


def _grant(keystone: Api, project: str, user: str, roles: list[str]) -> None:
    for role in roles:
        keystone.call("PUT", f"/projects/{project}/users/{user}/roles/{role}")


def _endpoints(keystone: Api, desired: Json, region: str) -> None:
    values = {"name": desired["name"], "type": desired["type"]}
    service = keystone.ensure("service", values, name=desired["name"], type=desired["type"])
    present = keystone.call("GET", "/endpoints", query={"service_id": service["id"], "region_id": region})["endpoints"]
    by_interface = {endpoint["interface"]: endpoint for endpoint in present}
    for interface in ("public", "internal", "admin"):
        endpoint = by_interface.get(interface)
        if endpoint is None:
            made("endpoint", f"{desired['name']} {interface}")
            values = {"service_id": service["id"], "interface": interface, "url": desired["url"], "region_id": region}
            keystone.call("POST", "/endpoints", {"endpoint": values})
        elif endpoint["url"] != desired["url"]:
            keystone.call("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": desired["url"]}})


def withdraw(desired: Json) -> None:
    """Take services out of the catalogue: nobody shall be sent where nobody listens. Their accounts stay."""
    keystone = Api(connect(desired), "identity")
    for service in desired["services"]:
        found = keystone.call("GET", "/services", query={"name": service["name"], "type": service["type"]})["services"]
        for one in found:
            print(f"withdrew service {service['name']}", flush=True)
            keystone.call("DELETE", f"/services/{one['id']}")  # its endpoints go with it


# -- limits -----------------------------------------------------------------------------------------------------------


def provide_limits(desired: Json) -> None:
    """Register the services' limits, or bring them to the desired state; what one project has of its own stays."""
    keystone = Api(connect(desired), "identity")
    for name, values in desired["limits"].items():
        service = keystone.one("services", name=name)
        if service is None:
            raise SystemExit(f"Service {name} is missing: make the identity first.")
        _register_limits(keystone, {"service_id": service["id"], "region_id": desired["region"]}, values)


def _register_limits(keystone: Api, place: dict[str, str], values: dict[str, int]) -> None:
    listed = keystone.call("GET", "/registered_limits", query=place)["registered_limits"]
    present = {limit["resource_name"]: limit for limit in listed}
    new = [{**place, "resource_name": name, "default_limit": values[name]} for name in values if name not in present]
    if new:
        made("limits", ", ".join(str(limit["resource_name"]) for limit in new))
        keystone.call("POST", "/registered_limits", {"registered_limits": new})
    for name in values.keys() & present.keys():
        if present[name]["default_limit"] != values[name]:
            change = {"registered_limit": {"default_limit": values[name]}}
            keystone.call("PATCH", f"/registered_limits/{present[name]['id']}", change)


# -- flavors ----------------------------------------------------------------------------------------------------------


def provide_flavors(desired: Json) -> None:
    """Make the flavors that are missing; one that is there keeps its sizes and its id, for servers may use it."""
    nova = Api(connect(desired), "compute")
    listed = nova.call("GET", "/flavors", query={"is_public": "None"})["flavors"]
    names, taken = {flavor["name"] for flavor in listed}, {flavor["id"] for flavor in listed}
    for flavor in desired["flavors"]:
        if flavor["name"] in names:
            continue
        made("flavor", flavor["name"])
        values = {key: value for key, value in flavor.items() if key != "id" or value not in taken}  # else Nova's own
        nova.call("POST", "/flavors", {"flavor": values})
        names.add(flavor["name"])
        taken.add(values.get("id"))


# -- volumes ----------------------------------------------------------------------------------------------------------


def provide_volume_types(desired: Json) -> None:
    """Make the types of volumes that are missing; one that is there stays as it is, for volumes may have it."""
    cinder = Api(connect(desired), "block-storage")
    present = {each["name"] for each in cinder.call("GET", "/types", query={"is_public": "None"})["volume_types"]}
    for volume_type in desired["volume_types"]:
        if volume_type["name"] not in present:
            _make_volume_type(cinder, volume_type)


def _make_volume_type(cinder: Api, volume_type: Json) -> None:
    """Make a type; it gets its name, by which it is looked for, when it is complete."""
    values = {**volume_type}
    name, encryption = values["name"], values.pop("encryption", None)
    if encryption is None:
        cinder.call("POST", "/types", {"volume_type": values})
    else:
        unfinished = f"{name}.new"
        for left in cinder.call("GET", "/types", query={"is_public": "None"})["volume_types"]:
            if left["name"] == unfinished:
                cinder.call("DELETE", f"/types/{left['id']}")
        found = cinder.call("POST", "/types", {"volume_type": {**values, "name": unfinished}})["volume_type"]
        cinder.call("POST", f"/types/{found['id']}/encryption", {"encryption": encryption})
        cinder.call("PUT", f"/types/{found['id']}", {"volume_type": {"name": name}})
    made("volume type", name)


# -- networks ---------------------------------------------------------------------------------------------------------


def provide_networks(desired: Json) -> None:
    """Make the external network, the tenant's network, the router between them, and open ping and SSH for it."""
    session = connect(desired)
    keystone, neutron = Api(session, "identity"), Api(session, "network", "/v2.0")
    tenant = keystone.one("projects", name=desired["tenant"]["project"], domain_id="default")
    admin = keystone.one("projects", name="admin", domain_id="default")
    if tenant is None or admin is None:
        raise SystemExit("The projects are missing: make the identity first.")
    external = _external_network(neutron, desired, admin["id"])
    subnets = _tenant_network(neutron, desired, tenant["id"])
    _router(neutron, desired, tenant["id"], external, subnets)
    _automatic(neutron, desired, admin["id"], external)
    for project in (tenant["id"], admin["id"]):
        _open_ping_and_ssh(neutron, project)


def _external_network(neutron: Api, desired: Json, project: str) -> str:
    names = desired["networks"]
    network = neutron.ensure(
        "network",
        {
            "name": names["external_name"],
            "project_id": project,
            "router:external": True,
            "provider:network_type": "flat",
            "provider:physical_network": names["physical_network"],
        },
        **{"name": names["external_name"], "router:external": "true"},
    )
    _subnet(
        neutron,
        {
            "name": f"{names['external_name']}-v4",
            "network_id": network["id"],
            "project_id": project,
            "ip_version": 4,
            "cidr": names["external_cidr"],
            "gateway_ip": names["external_gateway"],
            "enable_dhcp": False,
            "allocation_pools": [{"start": names["external_pool"][0], "end": names["external_pool"][1]}],
        },
    )
    return str(network["id"])


def _automatic(neutron: Api, desired: Json, project: str, external: str) -> None:
    """Let Neutron make a project's network when its first server asks for one (`--nic auto`); other defaults stay."""
    networks = neutron.call("GET", "/networks", query={"router:external": "true"})[
        "networks"
    ]  # it does not filter by is_default
    if not any(network["is_default"] for network in networks):
        neutron.call("PUT", f"/networks/{external}", {"network": {"is_default": True}})
    pool = {
        "name": "automatic",
        "project_id": project,
        "shared": True,
        "is_default": True,
        "prefixes": [desired["networks"]["automatic_cidr"]],
        "default_prefixlen": AUTOMATIC_PREFIX,
    }
    neutron.ensure("subnetpool", pool, ip_version="4", is_default="true")


def _tenant_network(neutron: Api, desired: Json, project: str) -> list[str]:
    names = desired["networks"]
    network = neutron.ensure(
        "network", {"name": names["tenant_name"], "project_id": project}, name=names["tenant_name"], project_id=project
    )
    common = {"network_id": network["id"], "project_id": project}
    version_4 = _subnet(
        neutron,
        {
            **common,
            "name": f"{names['tenant_name']}-v4",
            "ip_version": 4,
            "cidr": names["tenant_cidr"],
            "dns_nameservers": names["dns_servers"],
        },
    )
    version_6 = _subnet(
        neutron,
        {
            **common,
            "name": f"{names['tenant_name']}-v6",
            "ip_version": 6,
            "cidr": names["tenant_cidr_v6"],
            "ipv6_ra_mode": "slaac",
            "ipv6_address_mode": "slaac",
        },
    )
    return [version_4, version_6]


def _subnet(neutron: Api, values: Json) -> str:
    subnet = neutron.ensure("subnet", values, name=values["name"], network_id=values["network_id"])
    if subnet["cidr"] != values["cidr"]:
        raise SystemExit(
            f"Subnet {values['name']} is {subnet['cidr']}, not {values['cidr']}: a network that may be in use is not"
            " renumbered. Set the attribute back, or delete the subnet and run this again."
        )
    wanted = values.get("dns_nameservers")
    if wanted is not None and subnet["dns_nameservers"] != wanted:
        neutron.call("PUT", f"/subnets/{subnet['id']}", {"subnet": {"dns_nameservers": wanted}})
    return str(subnet["id"])


def _router(neutron: Api, desired: Json, project: str, external: str, subnets: list[str]) -> None:
    name = desired["networks"]["router_name"]
    values = {"name": name, "project_id": project, "external_gateway_info": {"network_id": external}}
    router = neutron.ensure("router", values, name=name, project_id=project)
    if not router.get("external_gateway_info"):
        neutron.call("PUT", f"/routers/{router['id']}", {"router": {"external_gateway_info": {"network_id": external}}})
    ports = neutron.call("GET", "/ports", query={"device_id": router["id"]})["ports"]
    attached = {address["subnet_id"] for port in ports for address in port["fixed_ips"]}
    for subnet in subnets:
        if subnet not in attached:
            neutron.call("PUT", f"/routers/{router['id']}/add_router_interface", {"subnet_id": subnet})
            made("router interface", name)


def _open_ping_and_ssh(neutron: Api, project: str) -> None:
    # Listing a project's groups makes its default group.
    group = neutron.one("security_groups", "/security-groups", name="default", project_id=project)
    if group is None:
        raise SystemExit(f"Project {project} has no default security group.")
    present = {
        (rule["ethertype"], rule["protocol"], rule["port_range_min"])
        for rule in group["security_group_rules"]
        if rule["direction"] == "ingress"
    }
    for family, protocol, port in (
        ("IPv4", "icmp", None),
        ("IPv4", "tcp", 22),
        ("IPv6", "ipv6-icmp", None),
        ("IPv6", "tcp", 22),
    ):
        if (family, protocol, port) in present:
            continue
        values = {
            "security_group_id": group["id"],
            "project_id": project,
            "direction": "ingress",
            "ethertype": family,
            "protocol": protocol,
        }
        if port:
            values.update(port_range_min=port, port_range_max=port)
        neutron.call("POST", "/security-group-rules", {"security_group_rule": values})
        made("security group rule", f"{family} {protocol}")


# -- readiness --------------------------------------------------------------------------------------------------------


def await_compute(desired: Json) -> None:
    """Wait until nova-compute has reported since its start on every host, and every host is mapped to a cell."""
    nova = Api(connect(desired), "compute")
    deadline = time.monotonic() + float(desired["timeout"])
    now = datetime.now(UTC).replace(tzinfo=None)
    started = {host: now - timedelta(seconds=age + 1) for host, age in desired["hosts"].items()}
    while True:
        missing = _missing(nova, started)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"nova-compute has not reported on {', '.join(missing)}; its log says why.")
        time.sleep(READY_POLL)


def _missing(nova: Api, started: dict[str, datetime]) -> list[str]:
    # Its state is not asked: somebody may have forced it down to evacuate its servers, until all is well again.
    reported = {
        service["host"]: datetime.fromisoformat(service["updated_at"])
        for service in nova.call("GET", "/os-services", query={"binary": "nova-compute"})["services"]
        if service["updated_at"]
    }
    # A hypervisor is listed once its host is mapped to a cell.
    mapped = {each["service"]["host"] for each in nova.call("GET", "/os-hypervisors/detail")["hypervisors"]}
    fresh = {host for host, when in reported.items() if host in started and when >= started[host]}
    return sorted(set(started) - (fresh & mapped))


# -- hosts ------------------------------------------------------------------------------------------------------------


def refuse_inhabited(desired: Json) -> None:
    """Refuse to remove hosts on which Nova has servers."""
    nova = Api(connect(desired), "compute")
    for host in desired["hosts"]:
        servers = nova.call("GET", "/servers", query={"all_tenants": "1", "host": host})["servers"]
        if servers:
            names = ", ".join(repr(server["name"])[1:-1] for server in servers[:NAMED_SERVERS])
            raise SystemExit(
                f"Nova has {len(servers)} servers on {host}: {names}{', ...' if len(servers) > NAMED_SERVERS else ''}."
                " Delete them or move them to another host first; nothing was removed."
            )


def provide_aggregate(desired: Json) -> None:
    """Put hosts into an aggregate, made if it is missing; one that is there keeps its properties and other hosts."""
    nova = Api(connect(desired), "compute")
    listed = nova.call("GET", "/os-aggregates")["aggregates"]
    present = next((each for each in listed if each["name"] == desired["aggregate"]), None)
    if present is None:
        made("aggregate", desired["aggregate"])
        values = {"name": desired["aggregate"]}
        present = {"hosts": [], **nova.call("POST", "/os-aggregates", {"aggregate": values})["aggregate"]}
    action = f"/os-aggregates/{present['id']}/action"
    if not present["hosts"] and not (present.get("metadata") or {}):  # new, or left so by a run that was killed
        nova.call("POST", action, {"set_metadata": {"metadata": desired["properties"]}})
    for host in desired["hosts"]:
        if host not in present["hosts"]:
            made("place in an aggregate", host)
            nova.call("POST", action, {"add_host": {"host": host}})


def forget_hosts(desired: Json) -> None:
    """Let Nova and Neutron forget hosts that are gone: their compute services, resource providers and agents."""
    session = connect(desired)
    nova, neutron = Api(session, "compute"), Api(session, "network", "/v2.0")
    for host in desired["hosts"]:
        query = {"host": host, "binary": "nova-compute"}  # the controller's own host has other services
        for service in nova.call("GET", "/os-services", query=query, version=MICROVERSION)["services"]:
            nova.call("DELETE", f"/os-services/{service['id']}", None, version=MICROVERSION)
        agents = neutron.call("GET", "/agents", query={"host": host})["agents"] if desired.get("agents", True) else ()
        for agent in agents:
            neutron.call("DELETE", f"/agents/{agent['id']}")


ACTIONS = {
    "identity": provide_identity,
    "people": provide_people,
    "withdraw": withdraw,
    "limits": provide_limits,
    "flavors": provide_flavors,
    "volume-types": provide_volume_types,
    "networks": provide_networks,
    "await-compute": await_compute,
    "aggregate": provide_aggregate,
    "refuse-inhabited": refuse_inhabited,
    "forget-hosts": forget_hosts,
}


def main() -> None:
    """Do the actions that the command line names, with the desired state on standard input."""
    desired = json.load(sys.stdin)
    for action in sys.argv[1:]:
        try:
            ACTIONS[action](desired)
        except exceptions.ClientException as error:
            raise SystemExit(f"{action}: {error}") from error


if __name__ == "__main__":
    main()
