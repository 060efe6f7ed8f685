# SPDX-License-Identifier: Apache-2.0
"""A message of Nova's dies on its way, and the server that it was to build does not stand in BUILD for ever."""

from __future__ import annotations

import contextlib
import threading

import fixtures
import pytest
from nova import context as contexts
from nova import exception, objects
from nova.conductor.manager import ComputeTaskManager
from nova_case import IMAGE, NOTHING, ServersCase, wait_until

from dockstack.deploy.payload import nova_conductor

pytestmark = pytest.mark.functional


class TestLostBuilds(ServersCase):
    def lose(self, call: str):
        """Lose the next messages of a kind."""
        return fixtures.MonkeyPatch(call, lambda *_arguments, **_more: None)

    def request(self):
        request = self._build_server(
            image_uuid=IMAGE, flavor_id=self.flavor, networks=[{"port": self.neutron.port_1["id"]}]
        )
        return self.api.post_server({"server": request})

    def is_recorded(self, server):
        """Whether the conductor has done its part."""
        context = contexts.get_admin_context()
        waiting = [request.instance_uuid for request in objects.BuildRequestList.get_all(context)]
        with contextlib.suppress(exception.InstanceNotFound):
            self.instance(server)
            return server["id"] not in waiting
        return False

    def end(self, patience=-1):
        tasks = ComputeTaskManager()
        return list(nova_conductor.end_lost_builds(contexts.get_admin_context(), tasks, patience))

    def check_ended(self, server):
        assert self.end() == [server["id"]]
        found = self._wait_for_state_change(server, "ERROR")
        assert "Delete the server and create it again" in found["fault"]["message"]
        assert found["OS-EXT-STS:task_state"] is None
        assert self.placement.get(f"/allocations/{server['id']}").body["allocations"] == {}
        assert self.end() == []
        assert len(self.api.get_servers()) == 1, "there is one of it"
        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)
        assert self.world.leftovers() == NOTHING

    def test_the_message_to_the_conductor_is_lost(self):
        with self.lose("nova.conductor.rpcapi.ComputeTaskAPI.schedule_and_build_instances"):
            server = self.request()
        assert self.end(patience=3600) == []
        assert self.api.get_server(server["id"])["status"] == "BUILD"
        self.check_ended(server)

    def test_the_message_to_the_host_is_lost(self):
        with self.lose("nova.compute.rpcapi.ComputeAPI.build_and_run_instance"):
            server = self.request()
            wait_until(lambda: self.is_recorded(server))
        assert self.end(patience=3600) == []
        self.check_ended(server)

    def test_the_conductor_dies_when_it_has_made_the_record(self):
        tasks, died = "nova.conductor.manager.ComputeTaskManager", threading.Event()
        die = fixtures.MonkeyPatch(f"{tasks}._delete_build_request", lambda *_arguments: died.set())
        with self.lose(f"{tasks}._map_instance_to_cell"), die:
            server = self.request()
            assert died.wait(60)
        assert self.end()[-1] == server["id"]
        found = self._wait_for_state_change(server, "ERROR")
        assert "Delete the server and create it again" in found["fault"]["message"]
        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)

    def test_a_server_that_a_host_has_is_not_touched(self):
        server = self.boot()
        instance = self.instance(server)
        instance.vm_state, instance.task_state = "building", "spawning"
        instance.save()
        assert self.end() == []

    def test_a_host_that_takes_it_at_this_moment_is_left_to_build(self):
        with self.lose("nova.compute.rpcapi.ComputeAPI.build_and_run_instance"):
            server = self.request()
            wait_until(lambda: self.is_recorded(server))
        save = objects.Instance.save

        def taken(instance, *arguments, **more):
            raise exception.UnexpectedTaskStateError(
                instance_uuid=instance.uuid, expected={"task_state": ["scheduling"]}, actual={"task_state": "spawning"}
            )

        with fixtures.MonkeyPatch("nova.objects.instance.Instance.save", taken):
            assert self.end() == []
        assert objects.Instance.save is save
        assert self.api.get_server(server["id"])["status"] == "BUILD"

    def test_the_conductor_does_it_by_itself(self):
        with self.lose("nova.compute.rpcapi.ComputeAPI.build_and_run_instance"):
            server = self.request()
            wait_until(lambda: self.is_recorded(server))
        self.flags(instance_build_timeout=1)
        manager = nova_conductor.Manager()
        assert any(name == "end_lost_builds" for name, _task in manager._periodic_tasks), manager._periodic_tasks
        instance = self.instance(server)
        context = contexts.get_admin_context()

        def is_ended():
            manager.end_lost_builds(context)
            return self.api.get_server(server["id"])["status"] == "ERROR"

        wait_until(is_ended)
        assert instance.host is None
