# SPDX-License-Identifier: Apache-2.0
"""Hosts are let in, drained and forgotten through Nova's own API and Placement's, on computes of Nova's fake driver."""

from __future__ import annotations

import copy
import json
import time
from urllib.parse import urlencode

import pytest
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.virt import node
from nova_case import SECONDS, PatientCase

from dockstack.deploy.administration import departure, draining, enrolment, hosts, proof, providers
from dockstack.deploy.administration.api import VERSIONS, Api, ApiError, Cloud, ConflictError, NotThereError
from dockstack.deploy.administration.draining import Draining, Resizes
from dockstack.deploy.administration.enrolment import REASON, Enrolment
from dockstack.deploy.administration.mapping import Mapping
from dockstack.deploy.administration.proof import Proof
from dockstack.deploy.payload import register_host
from dockstack.errors import DockstackError

pytestmark = pytest.mark.functional
REFUSALS = {404: NotThereError, 409: ConflictError}
OK = 300


class InProcess(Api):
    """An API that is in this process; ``ask`` takes method, path and body, and returns status and body."""

    def __init__(self, ask):
        self.ask = ask

    def call(self, method, path, body=None, *, query=None, version=None):
        status, told = self.ask(method, f"{path}?{urlencode(query)}" if query else path, body, version)
        if status >= OK:
            raise REFUSALS.get(status, ApiError)(f"{method} {path}: {told}", status)
        return told or {}


class TestAdministration(PatientCase):
    compute_driver = "fake.MediumFakeDriver"

    def setUp(self):
        super().setUp()
        for module in (draining, enrolment, proof):
            self.useFixture(nova_fixtures.fixtures.MonkeyPatch(f"{module.__name__}.POLL", 0.05))
        self.flags(allow_resize_to_same_host=False)
        networks = {"networks": [], "ports": [], "agents": []}
        made = {"network": {"id": self.neutron.network_1["id"]}, "subnet": {}}
        images = [{"id": "155d900f-4e14-4e4c-a73d-069cbf4541e6", "name": "cirros"}]
        self.cloud = Cloud(
            "test",
            compute=InProcess(self.ask_nova),
            placement=InProcess(self.ask_placement),
            network=InProcess(lambda method, *_: (200, made if method == "POST" else networks)),
            image=InProcess(lambda *_: (200, {"images": images})),
        )
        self.first, self.second = (self.start(name) for name in ("host1", "host2"))
        self.flavor = self._create_flavor(vcpu=1, memory_mb=64, disk=1, ephemeral=0)

    def start(self, host):
        node.LOCAL_NODE_UUID = None  # each host is another machine
        return self._start_compute(host)

    def ask_nova(self, method, path, body, version=None):
        client = copy.copy(self.admin_api)
        client.microversion = version or VERSIONS["compute"]
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        data = {"body": json.dumps(body)} if body is not None else {}
        answer = client.api_request(path.lstrip("/"), method=method, headers=headers, **data)
        return answer.status_code, answer.json() if answer.content else {}

    def ask_placement(self, method, path, body, version=None):
        given = {"GET": (), "DELETE": ()}.get(method, (body,))
        answer = getattr(self.placement, method.lower())(path, *given, version=version or VERSIONS["placement"])
        return answer.status, answer.body

    def boot(self, host="host1", **more):
        request = self._build_server(flavor_id=self.flavor, networks="none", host=host)
        return self._wait_for_state_change(self.api.post_server({"server": request | more}), "ACTIVE")

    def drain(self, host="host1", resizes=Resizes.CONFIRM):
        one = Draining(self.cloud, 2, resizes, SECONDS)
        one.close(host, "new disks")
        return one.drain(host, lambda _: None)

    def where(self, server):
        found = self.api.get_server(server["id"])
        return found["OS-EXT-SRV-ATTR:host"], found["status"]

    def test_servers_leave_a_drained_host_and_who_cannot_is_named(self):
        running, stopped, paused = (self.boot() for _ in range(3))
        self.api.post_server_action(stopped["id"], {"os-stop": None})
        self.api.post_server_action(paused["id"], {"pause": None})
        self._wait_for_state_change(stopped, "SHUTOFF")
        self._wait_for_state_change(paused, "PAUSED")
        done = self.drain()
        self._wait_for_state_change(running, "ACTIVE")  # Nova ends a move's record before the server's
        assert (self.where(running), self.where(stopped)) == (("host2", "ACTIVE"), ("host2", "SHUTOFF"))
        assert [each.why for each in done.unmoved] == ["it is paused"]
        assert hosts.moves(self.cloud, "host1") == []
        service = hosts.required(self.cloud, "host1")
        assert (service.enabled, service.reason) == (False, "dockstack node drain: new disks")
        assert draining.undrain(self.cloud, "host1")

    def test_a_server_without_another_host_stays_and_nova_says_why(self):
        server = self.boot()
        hosts.disable(self.cloud, hosts.required(self.cloud, "host2"), "x")
        (unmoved,) = self.drain().unmoved
        assert "No valid host was found" in unmoved.why
        assert self.where(server) == ("host1", "ACTIVE")

    def test_nova_may_say_why_after_it_let_go_of_the_server(self):
        finish = objects.InstanceActionEvent.event_finish_with_failure

        def late(_, *given, **named):
            time.sleep(0.6)  # more than one look of the drain's
            return finish(*given, **named)

        server = self.boot()
        hosts.disable(self.cloud, hosts.required(self.cloud, "host2"), "x")
        self.useFixture(
            nova_fixtures.fixtures.MonkeyPatch("nova.objects.InstanceActionEvent.event_finish_with_failure", late)
        )
        (unmoved,) = self.drain().unmoved
        assert "No valid host was found" in unmoved.why
        assert self.where(server) == ("host1", "ACTIVE")

    def test_moves_that_wait_are_settled(self):
        """One came from the host, one to it, and its user has not answered yet."""
        away, came = self.boot("host1"), self.boot("host2")
        other = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0)
        self.api.post_server_action(away["id"], {"migrate": {"host": "host2"}})
        self._wait_for_state_change(away, "VERIFY_RESIZE")
        self.api.post_server_action(came["id"], {"resize": {"flavorRef": other}})
        self._wait_for_state_change(came, "VERIFY_RESIZE")
        assert [each.why for each in self.drain(resizes=Resizes.LEAVE).unmoved] == ["its resize waits for its user"]
        assert self.drain(resizes=Resizes.REVERT).unmoved == ()
        assert (self.where(away), self.where(came)) == (("host2", "ACTIVE"), ("host2", "ACTIVE"))

    def test_a_host_leaves_nothing(self):
        server = self.boot()
        with pytest.raises(DockstackError, match="1 servers on host1"):
            departure.close(self.cloud, "host1")
        self.drain()
        departure.close(self.cloud, "host1")
        self.first.stop()
        assert len(departure.left_of(self.cloud, "host1")) == 3
        departure.forget_service(self.cloud, "host1", lambda _: None)
        assert departure.left_of(self.cloud, "host1") == []
        assert self.where(server) == ("host2", "ACTIVE")

    def test_a_dead_host_is_forgotten_when_its_servers_are_elsewhere(self):
        server = self.boot()
        self.first.stop()
        with pytest.raises(DockstackError, match="it is not lost"):
            departure.declare_lost(self.cloud, "host1")
        self.ask_nova("PUT", f"/os-services/{hosts.required(self.cloud, 'host1').id}", {"forced_down": True})
        with pytest.raises(DockstackError, match="1 servers on host1"):
            departure.declare_lost(self.cloud, "host1")
        self.api.post_server_action(server["id"], {"evacuate": {}})
        self._wait_for_server_parameter(server, {"OS-EXT-SRV-ATTR:host": "host2", "OS-EXT-STS:task_state": None})
        departure.declare_lost(self.cloud, "host1")
        departure.forget_service(self.cloud, "host1", lambda _: None)
        assert departure.left_of(self.cloud, "host1") == []
        held = self.ask_placement("GET", f"/allocations/{server['id']}", None)[1]["allocations"]
        assert list(held) == [self._get_provider_uuid_by_host("host2")]

    def test_a_new_host_is_proven_while_disabled_and_enabled_then(self):
        node.LOCAL_NODE_UUID = None
        register_host.register("host3", REASON)
        self._start_compute("host3")
        one = Enrolment(self.cloud, Mapping(self.cloud), Proof(self.cloud, flavor=self.flavor))
        done = one.enrol("host3", lambda _: None)
        assert (done.enabled, done.proof > 0) == (True, True)
        assert self.api.get_servers() == []
        provider = providers.provider(self.cloud, "host3")
        assert not providers.has_trait(self.cloud, provider, providers.DISABLED)
        assert one.enrol("host3", lambda _: None).proof == 0
