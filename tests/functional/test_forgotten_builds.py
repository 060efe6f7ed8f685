# SPDX-License-Identifier: Apache-2.0
"""A build whose message died with a conductor or with the bus ends with a fault; every other build is left alone."""

from __future__ import annotations

from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects
from nova.compute import rpcapi
from nova_case import IMAGE, ServersCase, wait_until

from dockstack.deploy.payload import nova_conductor

pytestmark = pytest.mark.functional

TO_CONDUCTOR = "nova.conductor.api.ComputeTaskAPI.schedule_and_build_instances"
TO_COMPUTE = "nova.compute.rpcapi.ComputeAPI.build_and_run_instance"
TO_CELL = "nova.conductor.manager.ComputeTaskManager._map_instance_to_cell"


class Died(BaseException):
    """The process is gone: nothing of it handles that."""


class TestForgottenBuilds(ServersCase):
    def request(self):
        wanted = self._build_server(
            image_uuid=IMAGE, flavor_id=self.flavor, networks=[{"port": self.neutron.port_1["id"]}]
        )
        return self.api.post_server({"server": wanted})["id"]

    def lose(self, message):
        """Ask for a server and let a message end on its way; return the server's id and the message."""
        with mock.patch(message, autospec=True) as sent:
            server_id = self.request()
            wait_until(lambda: sent.called)
        assert self.api.get_server(server_id)["status"] == "BUILD"
        return server_id, sent.call_args

    def look_for_forgotten(self, after=-1):
        with mock.patch.object(nova_conductor, "FORGOTTEN", after):
            conductor = nova_conductor.Conductor()
            conductor.end_forgotten_builds(nova_context.get_admin_context())

    def check_ended(self, server_id):
        server = self.api.get_server(server_id)
        assert server["status"] == "ERROR"
        assert server["OS-EXT-STS:task_state"] is None
        assert "was lost" in server["fault"]["message"]
        self.api.delete_server(server_id)
        self._wait_until_deleted(server)
        usages = self._get_provider_usages(self._get_provider_uuid_by_host("host1"))
        assert not any(usages.values())

    def test_one_that_no_conductor_got(self):
        server_id, _ = self.lose(TO_CONDUCTOR)
        self.look_for_forgotten()
        self.check_ended(server_id)
        assert not objects.BuildRequestList.get_all(nova_context.get_admin_context())

    def test_one_that_no_compute_node_got(self):
        server_id, _ = self.lose(TO_COMPUTE)
        self.look_for_forgotten()
        self.check_ended(server_id)

    def test_one_whose_conductor_died_between_the_cell_and_its_entry(self):
        """The cell has a server that nobody can see: it goes, and the request ends."""
        with mock.patch(TO_CELL, side_effect=Died) as reached:
            server_id = self.request()
            wait_until(lambda: reached.called)
        self.look_for_forgotten()
        self.check_ended(server_id)

    def test_a_young_one_is_left_alone_and_so_is_a_server_that_runs(self):
        running = self.boot(networks=[{"port": self.neutron.port_2["id"]}])
        server_id, _ = self.lose(TO_COMPUTE)
        self.look_for_forgotten(after=60)
        assert self.api.get_server(server_id)["status"] == "BUILD"
        self.look_for_forgotten()
        assert self.api.get_server(server_id)["status"] == "ERROR"
        assert self.api.get_server(running["id"])["status"] == "ACTIVE"

    def test_a_message_that_comes_late_still_builds_the_server(self):
        server_id, (arguments, named) = self.lose(TO_COMPUTE)
        self.look_for_forgotten()
        assert self.api.get_server(server_id)["status"] == "ERROR"
        rpcapi.ComputeAPI().build_and_run_instance(*arguments, **named)
        self._wait_for_state_change({"id": server_id}, "ACTIVE")
