# SPDX-License-Identifier: Apache-2.0
"""What no service is working on any more comes to an end; everything else is left alone."""

from __future__ import annotations

import datetime as dt
from unittest import mock

import pytest
from nova import context as nova_context
from nova import exception, objects, service
from nova.compute import rpcapi
from nova.conductor import manager
from nova_case import IMAGE, NOTHING, ServersCase, wait_until
from oslo_utils import timeutils

from dockstack.deploy.payload import nova_conductor

pytestmark = pytest.mark.functional

LONG = 3600  # seconds: whatever a test does is younger
TO_CONDUCTOR = "nova.conductor.api.ComputeTaskAPI.schedule_and_build_instances"
TO_COMPUTE = "nova.compute.rpcapi.ComputeAPI.build_and_run_instance"
TO_CELL = "nova.conductor.manager.ComputeTaskManager._map_instance_to_cell"


class Died(BaseException):
    """The process is gone: nothing of it handles that."""


class ForgottenCase(ServersCase):
    def setUp(self):
        ours = f"{nova_conductor.Conductor.__module__}.{nova_conductor.Conductor.__name__}"
        managers = mock.patch.dict(service.SERVICE_MANAGERS, {nova_conductor.BINARY: ours})
        managers.start()
        self.addCleanup(managers.stop)
        super().setUp()

    def request(self, networks=None):
        wanted = self._build_server(
            image_uuid=IMAGE, flavor_id=self.flavor, networks=networks or [{"port": self.neutron.port_1["id"]}]
        )
        return self.api.post_server({"server": wanted})["id"]

    def lose(self, message, networks=None):
        """Ask for a server and let a message end on its way; return the server's id and the message."""
        with mock.patch(message, autospec=True) as sent:
            server_id = self.request(networks)
            wait_until(lambda: sent.called)
        assert self.api.get_server(server_id)["status"] == "BUILD"
        return server_id, sent.call_args

    def look_for_forgotten(self, after=-1):
        with mock.patch.object(nova_conductor, "FORGOTTEN", after):
            conductor = nova_conductor.Conductor()
            context = nova_context.get_admin_context()
            conductor.end_forgotten_builds(context)
            conductor.end_forgotten_moves(context)
            conductor.end_forgotten_tasks(context)

    def holds(self, consumer):
        held = self.placement.get(f"/allocations/{consumer}").body["allocations"]
        return [each["resources"]["MEMORY_MB"] for each in held.values()]


class TestForgottenBuilds(ForgottenCase):
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

    def test_one_that_cannot_be_ended_keeps_no_other(self):
        lost = [self.lose(TO_COMPUTE, "none")[0] for _ in range(2)]
        failing = mock.patch.object(
            nova_conductor,
            "_end_instance",
            side_effect=[RuntimeError("of the database"), mock.DEFAULT],
            wraps=nova_conductor._end_instance,
        )
        with failing:
            self.look_for_forgotten()
        assert sorted(self.api.get_server(each)["status"] for each in lost) == ["BUILD", "ERROR"]

    def test_a_young_one_is_left_alone_and_so_is_a_server_that_runs(self):
        running = self.boot(networks="none")
        server_id, _ = self.lose(TO_COMPUTE)
        self.look_for_forgotten(after=LONG)
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

    def test_a_message_to_a_compute_node_that_comes_after_the_servers_delete_leaves_nothing(self):
        server_id, (arguments, named) = self.lose(TO_COMPUTE)
        self.look_for_forgotten()
        self.check_ended(server_id)
        with mock.patch.object(self.compute.manager, "_build_failed") as failed:  # the last that it does
            rpcapi.ComputeAPI().build_and_run_instance(*arguments, **named)
            wait_until(lambda: failed.called)
        assert self.world.leftovers() == NOTHING
        assert self.holds(server_id) == []

    def come_late(self, message, after=-1):
        """Have a conductor get what was lost: its processes are one here, so it is called."""
        (context,), named = message
        specifications = {"request_specs": named["request_spec"]}
        named = {name: value for name, value in named.items() if name != "request_spec"} | specifications
        with mock.patch.object(nova_conductor, "FORGOTTEN", after):
            builder = nova_conductor.Conductor().compute_task_mgr
            builder.schedule_and_build_instances(context, **named)

    def test_a_message_to_a_conductor_that_comes_late_finds_the_server_ended_and_leaves_it_so(self):
        server_id, message = self.lose(TO_CONDUCTOR)
        self.look_for_forgotten()
        self.come_late(message)
        assert [each["id"] for each in self.api.get_servers()] == [server_id]
        self.check_ended(server_id)
        self.come_late(message)
        assert self.api.get_servers() == []
        assert self.holds(server_id) == []
        assert self.world.leftovers() == NOTHING

    def test_a_message_to_a_conductor_that_comes_in_time_builds_and_nobody_ends_it(self):
        server_id, message = self.lose(TO_CONDUCTOR)
        schedule = "nova.conductor.manager.ComputeTaskManager._schedule_instances"

        def look_and_schedule(*arguments, **named):
            self.look_for_forgotten(after=LONG)  # the request is young again
            return real(*arguments, **named)

        request = objects.BuildRequest.get_by_instance_uuid(nova_context.get_admin_context(), server_id)
        request.created_at = request.updated_at = timeutils.utcnow(with_timezone=True) - dt.timedelta(seconds=2 * LONG)
        request.save()
        message[1]["build_requests"][0].created_at = request.created_at
        real = manager.ComputeTaskManager._schedule_instances
        with mock.patch(schedule, look_and_schedule):
            self.come_late(message, after=LONG)
        self._wait_for_state_change({"id": server_id}, "ACTIVE")

    def test_one_that_comes_late_by_the_bus_is_built_by_the_service(self):
        take_up = mock.patch.object(nova_conductor, "_take_up", wraps=nova_conductor._take_up)
        with mock.patch.object(nova_conductor, "FORGOTTEN", -2), take_up as taken:
            self.boot()
        assert taken.called

    def test_a_request_that_its_user_deleted_is_left_to_nova(self):
        server_id, message = self.lose(TO_CONDUCTOR)
        self.api.delete_server(server_id)
        self.come_late(message)
        assert self.api.get_servers() == []
        with pytest.raises(exception.InstanceMappingNotFound):
            objects.InstanceMapping.get_by_instance_uuid(nova_context.get_admin_context(), server_id)


class TestForgottenMoves(ForgottenCase):
    def setUp(self):
        super().setUp()
        self.flags(allow_resize_to_same_host=True)
        self.larger = self._create_flavor(name="larger", vcpu=1, memory_mb=128, disk=1, ephemeral=0)

    def begin(self, server):
        """Begin a resize whose message is lost between the node that prepared it and the one that is to send it."""
        with mock.patch("nova.compute.rpcapi.ComputeAPI.resize_instance", autospec=True) as sent:
            self.api.post_server_action(server["id"], {"resize": {"flavorRef": self.larger}})
            wait_until(lambda: sent.called)
        return objects.Migration.get_by_instance_and_status(
            nova_context.get_admin_context(), server["id"], "pre-migrating"
        )

    def status_of(self, migration):
        return objects.Migration.get_by_uuid(nova_context.get_admin_context(), migration.uuid).status

    def restart(self):
        """What nova-compute does to such a server when it starts."""
        self.restart_compute_service(self.compute, keep_hypervisor_state=False)

    def test_what_it_held_is_given_back_and_it_can_be_tried_again(self):
        server = self.boot()
        migration = self.begin(server)
        self.restart()
        assert self.holds(migration.uuid) == [64]
        assert self.holds(server["id"]) == [128], "Nova itself leaves it so"

        self.look_for_forgotten()
        assert self.status_of(migration) == "error"
        assert self.holds(migration.uuid) == []
        assert self.holds(server["id"]) == [64]
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": self.larger}})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        self.look_for_forgotten()
        self.api.post_server_action(server["id"], {"revertResize": None})
        self._wait_for_state_change(server, "ACTIVE")
        self.look_for_forgotten()
        assert self.holds(server["id"]) == [64]

    def test_a_server_that_came_to_another_node_with_its_old_flavor_holds_what_that_one_takes(self):
        server = self.boot()
        migration = self.begin(server)
        self.restart()
        migration.source_node = "another"
        migration.save()
        self.look_for_forgotten()
        assert self.holds(migration.uuid) == []
        assert self.holds(server["id"]) == [64]

    def test_a_server_whose_resize_failed_at_its_end_holds_what_its_old_flavor_takes(self):
        server = self.boot()
        with mock.patch("dockstack.compute.driver.DockerDriver.finish_migration", side_effect=RuntimeError("late")):
            self.api.post_server_action(server["id"], {"resize": {"flavorRef": self.larger}})
            self._wait_for_state_change(server, "ERROR")
        assert self.api.get_server(server["id"])["flavor"]["ram"] == 64
        assert self.holds(server["id"]) == [128], "Nova itself leaves it so"
        self.look_for_forgotten(after=LONG)
        assert self.holds(server["id"]) == [128]
        self.look_for_forgotten()
        assert self.holds(server["id"]) == [64]

    def test_a_server_holds_what_its_flavors_extra_specs_say(self):
        extra = {"extra_spec": {"resources:VCPU": "0", "resources:MEMORY_MB": "16"}}
        self.flavor = self._create_flavor(name="overridden", vcpu=1, memory_mb=64, disk=1, ephemeral=0, **extra)
        server = self.boot()
        assert self.holds(server["id"]) == [16]
        with mock.patch("nova.scheduler.client.report.SchedulerReportClient.put_allocations") as put:
            self.look_for_forgotten()
        assert not put.called

    def test_a_server_that_holds_nothing_of_its_host_holds_what_it_takes(self):
        server = self.boot()
        (before,) = self.placement.get(f"/allocations/{server['id']}").body["allocations"].values()
        self.placement.delete(f"/allocations/{server['id']}")
        self.look_for_forgotten(after=LONG)
        assert self.holds(server["id"]) == []
        self.look_for_forgotten()
        (after,) = self.placement.get(f"/allocations/{server['id']}").body["allocations"].values()
        assert after["resources"] == before["resources"]
        self.look_for_forgotten()
        assert self.holds(server["id"]) == [64]

    def test_one_that_somebody_works_on_is_left_alone(self):
        server = self.boot()
        migration = self.begin(server)
        self.look_for_forgotten()
        assert self.status_of(migration) == "pre-migrating"
        assert self.holds(migration.uuid) == [64]

    def test_what_a_deleted_servers_move_held_is_given_back(self):
        server = self.boot()
        migration = self.begin(server)
        self.restart()
        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)
        self.look_for_forgotten()
        assert self.holds(migration.uuid) == []
        usages = self._get_provider_usages(self._get_provider_uuid_by_host("host1"))
        assert not any(usages.values())

    def test_a_shelved_server_whose_return_was_lost_can_be_asked_for_again(self):
        server = self.boot()
        self.flags(shelved_offload_time=0)
        self.api.post_server_action(server["id"], {"shelve": {}})
        self._wait_for_state_change(server, "SHELVED_OFFLOADED")
        with mock.patch("nova.conductor.api.ComputeTaskAPI.unshelve_instance") as sent:
            self.api.post_server_action(server["id"], {"unshelve": None})
            wait_until(lambda: sent.called)
        self.look_for_forgotten(after=LONG)
        assert self.api.get_server(server["id"])["OS-EXT-STS:task_state"] == "unshelving"
        self.look_for_forgotten()
        assert self.api.get_server(server["id"])["OS-EXT-STS:task_state"] is None
        self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_state_change(server, "ACTIVE")

    def set_forced_down(self, *, down):
        service = objects.Service.get_by_compute_host(nova_context.get_admin_context(), "host1")
        service.forced_down = down
        service.save()

    def test_a_return_that_waits_for_a_host_that_is_down_is_left_to_it(self):
        server = self.boot()
        self.flags(shelved_offload_time=0)
        self.api.post_server_action(server["id"], {"shelve": {}})
        self._wait_for_state_change(server, "SHELVED_OFFLOADED")
        with mock.patch("nova.compute.rpcapi.ComputeAPI.unshelve_instance", autospec=True) as sent:
            self.api.post_server_action(server["id"], {"unshelve": None})
            wait_until(lambda: sent.called)
        self.set_forced_down(down=True)
        self.look_for_forgotten()
        assert self.api.get_server(server["id"])["OS-EXT-STS:task_state"] == "unshelving"
        self.set_forced_down(down=False)
        self.look_for_forgotten()
        assert self.api.get_server(server["id"])["OS-EXT-STS:task_state"] is None
        self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.holds(server["id"]) == [64]

    def test_a_return_from_the_shelf_that_failed_can_be_asked_for_again(self):
        server = self.boot()
        self.flags(shelved_offload_time=0)
        self.api.post_server_action(server["id"], {"shelve": {}})
        self._wait_for_state_change(server, "SHELVED_OFFLOADED")
        with mock.patch.object(self.driver(), "spawn", side_effect=RuntimeError("the engine died")) as reached:
            self.api.post_server_action(server["id"], {"unshelve": None})
            wait_until(lambda: reached.called and self.api.get_server(server["id"])["OS-EXT-STS:task_state"] is None)
        self.api.post_server_action(server["id"], {"os-resetState": {"state": "active"}})
        self.look_for_forgotten()
        assert self.api.get_server(server["id"])["status"] == "SHELVED_OFFLOADED"
        self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_state_change(server, "ACTIVE")
        self.look_for_forgotten()
        assert self.api.get_server(server["id"])["status"] == "ACTIVE"
