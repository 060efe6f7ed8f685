# SPDX-License-Identifier: Apache-2.0
"""A cloud's APIs over real HTTP, in memory: as much of Keystone, Nova, Placement, Neutron and Glance as hosts need.

What a test may want to go wrong is in the attributes. Time passes with questions: each look at a server takes the next
step of what was asked of it.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import yaml

from dockstack.deploy.administration import agents, draining, enrolment, mapping, proof

DISABLED = "COMPUTE_STATUS_DISABLED"


class RefusedError(Exception):
    def __init__(self, status, text="No."):
        super().__init__(text)
        self.status, self.text = status, text


class FakeCloud:
    """The state; ``requests`` is what was asked, as "METHOD path"."""

    def __init__(self):
        self.lock = threading.RLock()
        self.requests = []
        self.administrator = True
        self.services = {}
        self.mapped = set()
        self.servers = {}
        self.moves = []
        self.aggregates = {}
        self.providers = {}
        self.agents = {}
        self.networks = {}
        self.images = [{"id": "img", "name": "dockstack-base", "status": "active", "container_format": "docker"}]
        self.flavors = [
            {"id": "2", "name": "big", "ram": 512, "vcpus": 1, "disk": 1},
            {"id": "1", "name": "small", "ram": 64, "vcpus": 1, "disk": 1},
        ]
        self.unmovable = set()  # ids of servers for which there is no other host
        self.boots = True
        self.keeps_provider = False  # Nova fails to delete it, and only logs that
        self.returning_agents = False
        self.reports = 0
        self.silent = False  # nova-compute has ended, and Nova has not found out yet

    # -- what tests say ------------------------------------------------------------------------------------------------

    def add_host(self, name, *, enabled=True, reason=None, mapped=True, up=True):
        self.services[name] = {
            "id": str(uuid.uuid4()),
            "binary": "nova-compute",
            "host": name,
            "status": "enabled" if enabled else "disabled",
            "state": "up" if up else "down",
            "disabled_reason": reason,
            "forced_down": False,
            "zone": "nova",
            "updated_at": "2026-11-27T17:00:00.000000",
        }
        if mapped:
            self.mapped.add(name)
        traits = set() if enabled else {DISABLED}
        inventory = {"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 40}
        self.providers[str(uuid.uuid4())] = {
            "name": name,
            "traits": traits,
            "generation": 1,
            "inventory": inventory,
            "held": {},
        }
        for kind in ("OVN Controller agent", "OVN Neutron agent"):
            self.agents[str(uuid.uuid4())] = {"agent_type": kind, "host": name, "alive": up}

    def add_server(self, name, host, status="ACTIVE", **more):
        server_id = more.pop("id", None) or str(uuid.uuid4())
        self.servers[server_id] = {"name": name, "host": host, "status": status, "task": None, "next": [], **more}
        provider = self.provider_of(host)
        if provider:
            provider["held"][server_id] = {"VCPU": 1}
        return server_id

    def add_move(self, server, kind, source, destination, status="finished"):
        move = {
            "uuid": str(uuid.uuid4()),
            "instance_uuid": server,
            "migration_type": kind,
            "status": status,
            "source_compute": source,
            "dest_compute": destination,
        }
        self.moves.append(move)
        return move

    def provider_of(self, host):
        return next((each for each in self.providers.values() if each["name"] == host), None)

    def changes(self):
        """Return what was asked that is no question."""
        return [each for each in self.requests if not each.startswith(("GET", "POST /identity"))]

    # -- what the APIs do ----------------------------------------------------------------------------------------------

    def tokens(self, query, body):
        return {"token": {"catalog": self.catalogue, "methods": ["password"], "expires_at": "2099-01-01T00:00:00Z"}}

    def list_services(self, query, body):
        if not self.administrator:
            raise RefusedError(403, "Policy doesn't allow it.")
        found = [each for each in self.services.values() if each["binary"] == query.get("binary")]
        self.reports += 1
        for each in found:
            if (each["state"] == "up" or each["forced_down"]) and not self.silent:
                each["updated_at"] = f"2026-11-27T17:00:00.{self.reports:06}"
        return {"services": [each for each in found if each["host"] == query.get("host", each["host"])]}

    def update_service(self, query, body, service_id):
        service = next(each for each in self.services.values() if each["id"] == service_id)
        if "status" in body:
            service |= {"status": body["status"], "disabled_reason": body.get("disabled_reason")}
            traits = self.provider_of(service["host"])["traits"]
            (traits.add if body["status"] == "disabled" else traits.discard)(DISABLED)
        if "forced_down" in body:
            service["forced_down"] = body["forced_down"]
            service["state"] = "down"
        return {"service": service}

    def delete_service(self, query, body, service_id):
        host = next((name for name, each in self.services.items() if each["id"] == service_id), None)
        if host is None:
            raise RefusedError(404)
        open_moves = [each for each in self.moves if host in {each["source_compute"], each["dest_compute"]}]
        if any(each["host"] == host for each in self.servers.values()) or open_moves:
            raise RefusedError(409, "Unable to delete compute service that is hosting instances.")
        del self.services[host]
        self.mapped.discard(host)
        if not self.keeps_provider:
            self.providers = {key: each for key, each in self.providers.items() if each["name"] != host}
        for aggregate in self.aggregates.values():
            aggregate["hosts"] = [each for each in aggregate["hosts"] if each != host]

    def list_hypervisors(self, query, body):
        found = [host for host in self.services if query["hypervisor_hostname_pattern"] in host]
        if not found:
            raise RefusedError(404)
        return {"hypervisors": [{"service": {"host": host}} for host in found if host in self.mapped]}

    def list_servers(self, query, body):
        found = [
            self._shown(key)
            for key, each in self.servers.items()
            if query.get("host", each["host"]) == each["host"]
            and query.get("name", each["name"]).strip("^$") in each["name"]
        ]
        return {"servers": found}

    def show_server(self, query, body, server_id):
        if server_id not in self.servers:
            raise RefusedError(404)
        server = self.servers[server_id]
        if server["next"]:
            server.update(server["next"].pop(0))
        if server["status"] == "DELETED":
            del self.servers[server_id]
            raise RefusedError(404)
        return {"server": self._shown(server_id)}

    def _shown(self, server_id):
        server = self.servers[server_id]
        shown = {
            "id": server_id,
            "name": server["name"],
            "status": server["status"],
            "OS-EXT-STS:task_state": server["task"],
            "OS-EXT-SRV-ATTR:host": server["host"],
        }
        return shown | ({"fault": {"message": server["fault"]}} if server.get("fault") else {})

    def create_server(self, query, body):
        wanted = body["server"]
        host = wanted["availability_zone"].partition(":")[2]
        server_id = self.add_server(wanted["name"], None, "BUILD", task="scheduling")
        if DISABLED in self.provider_of(host)["traits"]:
            outcome = {"status": "ERROR", "task": None, "fault": "No valid host was found."}
        elif not self.boots:
            outcome = {"status": "ERROR", "task": None, "host": host, "fault": "The engine is broken."}
        else:
            outcome = {"status": "ACTIVE", "task": None, "host": host}
        self.servers[server_id]["next"] = [outcome]
        return {"server": {"id": server_id}}

    def delete_server(self, query, body, server_id):
        if server_id not in self.servers:
            raise RefusedError(404)
        self.servers[server_id]["next"] = [{"task": "deleting"}, {"status": "DELETED"}]

    def server_action(self, query, body, server_id):
        (action,) = body
        server = self.servers[server_id]
        if server["task"] is not None:
            raise RefusedError(409, "It is busy.")
        return getattr(self, f"do_{action}")(server_id, server)

    def do_migrate(self, server_id, server):
        source, status = server["host"], server["status"]
        server["task"] = "resize_prep"
        if server_id in self.unmovable:
            server["next"] = [{"task": None}]
            server["event"] = "No valid host was found."
            return
        open_hosts = (name for name, each in self.services.items() if each["status"] == "enabled")
        destination = next(name for name in open_hosts if name != source)
        move = self.add_move(server_id, "migration", source, destination, "migrating")
        server["before"] = status
        server["next"] = [
            {"status": "RESIZE", "task": "resize_migrating"},
            {"status": "VERIFY_RESIZE", "task": None, "host": destination},
        ]
        move["status"] = "finished"

    def _end_move(self, server_id, status):
        move = next((each for each in self.moves if each["instance_uuid"] == server_id), None)
        if move is None:
            raise RefusedError(400, "Instance has not been resized.")
        self.moves.remove(move)
        return move

    def do_confirmResize(self, server_id, server):  # noqa: N802 - Nova calls it so
        self._end_move(server_id, "confirmed")
        server["next"] = [{"status": server.get("before", "ACTIVE")}]

    def do_revertResize(self, server_id, server):  # noqa: N802
        move = self._end_move(server_id, "reverted")
        server["next"] = [
            {"status": "REVERT_RESIZE", "task": "resize_reverting"},
            {"status": "ACTIVE", "task": None, "host": move["source_compute"]},
        ]

    def do_shelveOffload(self, server_id, server):  # noqa: N802
        server["next"] = [{"status": "SHELVED_OFFLOADED", "host": None}]

    def list_actions(self, query, body, server_id):
        failed = self.servers[server_id].get("event")
        return {"instanceActions": [{"action": "migrate", "request_id": "req-1"}] if failed else []}

    def show_action(self, query, body, server_id, request):
        return {"instanceAction": {"events": [{"result": "Error", "details": self.servers[server_id]["event"]}]}}

    def list_moves(self, query, body):
        return {"migrations": [each for each in self.moves if query["host"] in each.values()]}

    def list_aggregates(self, query, body):
        return {"aggregates": [{"id": key, **each} for key, each in self.aggregates.items()]}

    def aggregate_action(self, query, body, aggregate_id):
        ((action, values),) = body.items()
        aggregate = self.aggregates[int(aggregate_id)]
        if action == "set_metadata":
            aggregate["metadata"] = values["metadata"]
        elif action == "remove_host":
            aggregate["hosts"].remove(values["host"])
        elif values["host"] in aggregate["hosts"]:
            raise RefusedError(409, "Host already in aggregate.")
        else:
            aggregate["hosts"].append(values["host"])

    def create_aggregate(self, query, body):
        if any(each["name"] == body["aggregate"]["name"] for each in self.aggregates.values()):
            raise RefusedError(409, "Aggregate already exists.")
        made = self.aggregates[len(self.aggregates) + 1] = {**body["aggregate"], "hosts": [], "metadata": {}}
        return {"aggregate": {"id": len(self.aggregates), "name": made["name"]}}  # Nova's answer has no more, either

    def list_flavors(self, query, body):
        return {"flavors": self.flavors}

    def list_images(self, query, body):
        return {"images": self.images}

    def list_providers(self, query, body):
        found = [{"uuid": key, "name": each["name"]} for key, each in self.providers.items()]
        return {"resource_providers": [each for each in found if each["name"] == query["name"]]}

    def delete_provider(self, query, body, provider):
        if self.providers[provider]["held"]:
            raise RefusedError(409, "Unable to delete resource provider: allocations.")
        del self.providers[provider]

    def show_inventory(self, query, body, provider):
        return {"inventories": {name: {"total": each} for name, each in self.providers[provider]["inventory"].items()}}

    def show_held(self, query, body, provider):
        return {"allocations": self.providers[provider]["held"]}

    def show_consumer(self, query, body, consumer):
        held = {
            key: {"generation": 1, "resources": each["held"][consumer]}
            for key, each in self.providers.items()
            if consumer in each["held"]
        }
        more = {"project_id": "p", "user_id": "u", "consumer_generation": 1, "consumer_type": "INSTANCE"}
        return {"allocations": held, **(more if held else {})}

    def update_consumer(self, query, body, consumer):
        assert body["consumer_generation"] == 1
        for key, each in self.providers.items():
            each["held"].pop(consumer, None)
            if key in body["allocations"]:
                each["held"][consumer] = body["allocations"][key]["resources"]

    def show_traits(self, query, body, provider):
        known = self.providers[provider]
        return {"traits": sorted(known["traits"]), "resource_provider_generation": known["generation"]}

    def update_traits(self, query, body, provider):
        known = self.providers[provider]
        if body["resource_provider_generation"] != known["generation"]:
            raise RefusedError(409, "Generation conflict.")
        known |= {"traits": set(body["traits"]), "generation": known["generation"] + 1}

    def list_agents(self, query, body):
        return {"agents": [{"id": key, **each} for key, each in self.agents.items() if each["host"] == query["host"]]}

    def delete_agent(self, query, body, agent):
        if agent not in self.agents:
            raise RefusedError(404)
        if not self.returning_agents:
            del self.agents[agent]

    def list_networks(self, query, body):
        return {
            "networks": [{"id": key, **each} for key, each in self.networks.items() if each["name"] == query["name"]]
        }

    def create_network(self, query, body):
        made = str(uuid.uuid4())
        self.networks[made] = {"name": body["network"]["name"]}
        return {"network": {"id": made}}

    def create_subnet(self, query, body):
        return {"subnet": {"id": str(uuid.uuid4())}}

    def list_ports(self, query, body):
        return {"ports": []}

    def delete_network(self, query, body, network):
        del self.networks[network]

    ROUTES = (
        ("POST", "/identity/v3/auth/tokens", tokens),
        ("GET", "/compute/v2.1/os-services", list_services),
        ("PUT", "/compute/v2.1/os-services/(.+)", update_service),
        ("DELETE", "/compute/v2.1/os-services/(.+)", delete_service),
        ("GET", "/compute/v2.1/os-hypervisors/detail", list_hypervisors),
        ("GET", "/compute/v2.1/servers", list_servers),
        ("GET", "/compute/v2.1/servers/detail", list_servers),
        ("POST", "/compute/v2.1/servers", create_server),
        ("GET", "/compute/v2.1/servers/([^/]+)", show_server),
        ("DELETE", "/compute/v2.1/servers/([^/]+)", delete_server),
        ("POST", "/compute/v2.1/servers/([^/]+)/action", server_action),
        ("GET", "/compute/v2.1/servers/([^/]+)/os-instance-actions", list_actions),
        ("GET", "/compute/v2.1/servers/([^/]+)/os-instance-actions/(.+)", show_action),
        ("GET", "/compute/v2.1/os-migrations", list_moves),
        ("GET", "/compute/v2.1/os-aggregates", list_aggregates),
        ("POST", "/compute/v2.1/os-aggregates", create_aggregate),
        ("POST", "/compute/v2.1/os-aggregates/(.+)/action", aggregate_action),
        ("GET", "/compute/v2.1/flavors/detail", list_flavors),
        ("GET", "/image/v2/images", list_images),
        ("GET", "/placement/resource_providers", list_providers),
        ("DELETE", "/placement/resource_providers/([^/]+)", delete_provider),
        ("GET", "/placement/resource_providers/([^/]+)/inventories", show_inventory),
        ("GET", "/placement/resource_providers/([^/]+)/allocations", show_held),
        ("GET", "/placement/resource_providers/([^/]+)/traits", show_traits),
        ("PUT", "/placement/resource_providers/([^/]+)/traits", update_traits),
        ("GET", "/placement/allocations/(.+)", show_consumer),
        ("PUT", "/placement/allocations/(.+)", update_consumer),
        ("GET", "/network/v2.0/agents", list_agents),
        ("DELETE", "/network/v2.0/agents/(.+)", delete_agent),
        ("GET", "/network/v2.0/networks", list_networks),
        ("POST", "/network/v2.0/networks", create_network),
        ("POST", "/network/v2.0/subnets", create_subnet),
        ("GET", "/network/v2.0/ports", list_ports),
        ("DELETE", "/network/v2.0/networks/(.+)", delete_network),
    )

    def answer(self, method, target, body):
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        with self.lock:
            self.requests.append(f"{method} {parts.path}")
            for verb, pattern, do in self.ROUTES:
                match = re.fullmatch(pattern, parts.path)
                if verb == method and match:
                    return do(self, query, body, *match.groups())
        raise RefusedError(404, f"The fake has no {method} {parts.path}.")

    @contextmanager
    def serving(self):
        """Have it answer on the loopback; the value is Keystone's address."""
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)) as server:
            root = f"http://127.0.0.1:{server.server_port}"
            places = {"compute": "/compute/v2.1", "placement": "/placement", "network": "/network", "image": "/image"}
            self.catalogue = [
                {
                    "type": service,
                    "name": service,
                    "id": service,
                    "endpoints": [
                        {"interface": "public", "region": "R", "region_id": "R", "id": "e", "url": root + path}
                    ],
                }
                for service, path in places.items()
            ]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield f"{root}/identity/v3"
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def administered(directory, monkeypatch):
    """Have a cloud that clouds.yaml calls dockstack, with its administrator's account; nobody waits long for it."""
    cloud = FakeCloud()
    for module in (agents, draining, enrolment, mapping, proof):
        monkeypatch.setattr(module, "POLL", 0.001)
    for name in ("OS_CLOUD", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    with cloud.serving() as cloud.keystone:
        auth = {"auth_url": cloud.keystone, "username": "admin", "password": "pw", "project_name": "admin"}
        auth |= {"user_domain_id": "default", "project_domain_id": "default"}
        file = directory / "clouds.yaml"
        file.write_text(yaml.safe_dump({"clouds": {"dockstack": {"auth": auth, "region_name": "R"}}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
        yield cloud


def _handler(cloud):
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/identity/v3":
                here = f"http://{self.headers['Host']}/identity/v3/"
                version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": here}]}
                return self.send(200, {"version": version})
            try:
                told = cloud.answer(self.command, self.path, json.loads(given) if given else None)
            except RefusedError as refused:
                return self.send(refused.status, {"error": {"message": refused.text, "code": refused.status}})
            return self.send(204 if told is None else 200, told)

        def send(self, status, told):
            data = b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Subject-Token", "token")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the library calls them so

    return Handler
