# SPDX-License-Identifier: Apache-2.0
"""Resizes through Nova's real API, scheduler and compute manager in one process, on a host in memory."""

from __future__ import annotations

import threading

import fixtures
import pytest
from nova import context as nova_context
from nova import objects
from nova.compute import power_state
from nova_case import NOTHING, ServersCase, wait_until

from dockstack.compute.model import PowerState

pytestmark = pytest.mark.functional


class ResizesCase(ServersCase):
    def setUp(self):
        super().setUp()
        self.flags(allow_resize_to_same_host=True)
        self.bigger = self._create_flavor(vcpu=2, memory_mb=128, disk=2, ephemeral=0)

    def ask_resize(self, server, flavor=None):
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": flavor or self.bigger}})

    def resize(self, server, flavor=None):
        self.ask_resize(server, flavor)
        return self._wait_for_state_change(server, "VERIFY_RESIZE")

    def confirm(self, server, expected="ACTIVE"):
        self.api.post_server_action(server["id"], {"confirmResize": None}, check_response_status=[204])
        return self._wait_for_state_change(server, expected)

    def revert(self, server, expected="ACTIVE"):
        self.api.post_server_action(server["id"], {"revertResize": None})
        return self._wait_for_state_change(server, expected)

    def memory_mb(self, server):
        return self.container(server).host_config["Memory"] >> 20

    def fault_of(self, server):
        fault = objects.InstanceFault.get_latest_for_instance(nova_context.get_admin_context(), server["id"])
        return fault.message if fault else ""


class TestResizes(ResizesCase):
    def test_a_resize_keeps_the_container_and_its_network(self):
        server = self.boot()
        before, links = self.container(server), dict(self.world.links)

        resized = self.resize(server)
        assert resized["OS-EXT-STS:power_state"] == power_state.RUNNING
        assert self.memory_mb(server) == 128
        confirmed = self.confirm(server)

        assert confirmed["flavor"]["ram"] == 128
        assert confirmed["addresses"] == server["addresses"]
        assert self.container(server).id == before.id
        assert self.container(server).state is PowerState.RUNNING
        assert self.world.links == links
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_a_revert_restores_everything(self):
        server = self.boot()
        before, links = self.container(server), dict(self.world.links)

        self.resize(server)
        reverted = self.revert(server)

        assert reverted["flavor"]["ram"] == 64
        assert self.container(server) == before
        assert self.world.links == links

    def test_a_stopped_server_stays_stopped(self):
        server = self._stop_server(self.boot())

        self.resize(server)
        assert self.memory_mb(server) == 128
        assert self.container(server).state is PowerState.SHUTDOWN
        assert self.confirm(server, "SHUTOFF")["flavor"]["ram"] == 128

        self.resize(server, self._create_flavor(vcpu=1, memory_mb=96, disk=2, ephemeral=0))
        assert self.memory_mb(server) == 96
        self.revert(server, "SHUTOFF")
        assert self.memory_mb(server) == 128
        assert self.container(server).state is PowerState.SHUTDOWN

    def test_a_cold_migration_never_stays_on_its_host(self):
        server = self.boot()
        before = self.container(server)

        self.api.post_server_action(server["id"], {"migrate": None})
        self._assert_resize_migrate_action_fail(server, "migrate", "NoValidHost")
        assert self.container(server) == before

    def test_a_resized_server_can_be_deleted(self):
        server = self.boot()
        self.resize(server)
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def refuse(self, server, flavor, reason):
        """Nova takes the resize back by itself; the reason is the fault, and the server is as it was."""
        before = self.container(server)
        self.ask_resize(server, flavor)
        wait_until(lambda: reason in self.fault_of(server))
        self._wait_for_server_parameter(server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None})
        assert self.container(server) == before

    def test_a_disk_that_would_shrink_is_refused_before_anything_is_touched(self):
        server = self.boot()
        self.resize(server)
        self.confirm(server)

        self.refuse(server, self.flavor, "The server's disk of 2 GB cannot shrink to 1 GB. Choose a flavor")
        assert self.api.get_server(server["id"])["flavor"]["ram"] == 128

    def test_flavors_that_no_container_can_have_are_refused(self):
        server = self.boot()
        for sizes, reason in (
            ({"ephemeral": 1}, "ephemeral disks of servers on Docker hosts neither move nor change"),
            (
                {"ephemeral": 0, "extra_spec": {"docker:nofile_limit": "64"}},
                "open files (docker:nofile_limit) cannot change",
            ),
            ({"ephemeral": 0, "extra_spec": {"docker:pids_limit": "many"}}, "must be a whole number"),
        ):
            self.refuse(server, self._create_flavor(vcpu=1, memory_mb=128, disk=2, **sizes), reason)
        self.resize(server)
        self.confirm(server)


class TestBrokenResizes(ResizesCase):
    def setUp(self):
        super().setUp()
        self.world.memory_in_use = 200 << 20  # more than the new flavor has, so that the server has to be restarted

    def kill_at(self, call: str, work) -> None:
        """Let the process be killed after its next call of that name; see test_restarts.

        Its thread is one of the message server's, which a restart in this one process must not wait for.
        """
        self.useFixture(fixtures.MonkeyPatch("nova.service.Service._wait_rpc_server", lambda *_args: None))
        self.world.grave = threading.Event()
        self.addCleanup(self.world.grave.set)
        self.world.calls.clear()
        self.world.kill_after = call
        work()
        wait_until(lambda: self.world.dead)
        self.world.revive()
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)

    def test_killed_before_the_new_flavor_nova_takes_it_back(self):
        server = self.boot()
        self.kill_at("stop 60", lambda: self.ask_resize(server))

        self._wait_for_server_parameter(server, {"status": "ACTIVE", "OS-EXT-STS:task_state": None})
        assert self.memory_mb(server) == 64
        assert self.container(server).state is PowerState.RUNNING

    def test_killed_while_the_new_flavor_comes_a_reboot_completes_it(self):
        server = self.boot()
        self.kill_at("update", lambda: self.ask_resize(server))

        self.api.post_server_action(server["id"], {"os-resetState": {"state": "active"}})
        self._reboot_server(server, hard=True)
        assert self.memory_mb(server) == 128
        assert self.container(server).state is PowerState.RUNNING
        assert self.api.get_server(server["id"])["flavor"]["ram"] == 128

    def test_killed_while_the_new_flavor_comes_it_can_be_deleted(self):
        server = self.boot()
        self.kill_at("update", lambda: self.ask_resize(server))

        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_killed_while_the_old_flavor_comes_back_a_reboot_completes_it(self):
        server = self.boot()
        self.resize(server)
        self.kill_at("update", lambda: self.api.post_server_action(server["id"], {"revertResize": None}))

        self.api.post_server_action(server["id"], {"os-resetState": {"state": "active"}})
        self._reboot_server(server, hard=True)
        assert self.memory_mb(server) == 64
        assert self.api.get_server(server["id"])["flavor"]["ram"] == 64

    def test_a_resized_server_that_fell_with_the_engine_runs_again(self):
        self.flags(resume_guests_state_on_host_boot=True)
        wait_until(lambda: self.world.streams)
        server = self.boot()
        self.resize(server)
        self.world.crash_engine(servers_survive=False)
        self.world.engine_up = True

        wait_until(lambda: self.container(server).state is PowerState.RUNNING)
        assert self.memory_mb(server) == 128
