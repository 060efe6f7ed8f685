# SPDX-License-Identifier: Apache-2.0
"""Rescue, suspend and crash dump through Nova's API, on a host in memory."""

from __future__ import annotations

import time
from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects
from nova.compute import power_state, task_states
from nova_case import IMAGE, NOTHING, ServersCase, wait_until

from dockstack.compute.engine import EngineError
from dockstack.compute.host import originals
from dockstack.compute.model import PowerState
from fake_host import image_archive

pytestmark = pytest.mark.functional

RESCUER = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000dd"


class TestRescue(ServersCase):
    def rescue(self, server, image=None):
        request = {"adminPass": "secret-x"} | ({"rescue_image_ref": image} if image else {})
        self.api.post_server_action(server["id"], {"rescue": request})
        return self._wait_for_state_change(server, "RESCUE")

    def diagnostics(self, server):
        """Nova's manager asks only for those of servers that run; the driver tells them in every state."""
        instance = self.instance(server)
        assert "state" in self.driver().get_diagnostics(instance)
        return self.driver().get_instance_diagnostics(instance)

    def test_rescue_and_unrescue(self):
        self.images.add(RESCUER, image_archive(Cmd=["/rescuer"]))
        server = self.boot(metadata={"docker_command": '["/broken"]'})
        identity = self.container(server).id

        rescued = self.rescue(server, RESCUER)
        assert rescued["OS-EXT-STS:power_state"] == power_state.RUNNING
        assert self.container(server).id != identity
        assert self.container(server).labels["org.openstack.nova.image"] == RESCUER
        spec = self.world.specs[self.container(server).name]
        assert spec.command == ("/rescuer",), "what the server's metadata says to run may be what is broken"
        assert len(self.driver().list_instance_uuids()) == 1

        self.api.post_server_action(server["id"], {"unrescue": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.container(server).id == identity
        assert self.container(server).state is PowerState.RUNNING
        assert len(self.world.containers) == 1

    def test_the_servers_own_image_and_a_delete(self):
        server = self.boot()
        self.rescue(server)
        assert self.container(server).labels["org.openstack.nova.image"] == IMAGE
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_nova_compute_restarts_in_the_midst(self):
        self.flags(resume_guests_state_on_host_boot=True)
        server, rescued = self.boot(), self.boot(networks="none")
        identity = self.container(server).id
        self.rescue(rescued)
        self.rescue(server)
        instance = self.instance(server)
        instance.task_state, instance.vm_state, instance.power_state = task_states.RESCUING, "active", 1
        instance.save()  # as it is when the service dies before it could say that the rescue has ended

        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        wait_until(lambda: self.api.get_server(server["id"])["status"] == "ACTIVE")
        wait_until(lambda: self.container(server).id == identity)
        assert self.container(server).state is PowerState.RUNNING
        assert self.api.get_server(rescued["id"])["status"] == "RESCUE"
        assert self.container(rescued).state is PowerState.RUNNING

    def test_one_that_cannot_be_taken_back_does_not_keep_the_service_from_starting(self):
        server = self.boot()
        instance = self.instance(server)
        instance.task_state = task_states.RESCUING
        instance.save()
        with mock.patch.object(originals, "restore", side_effect=EngineError("It is busy.")) as tried:
            self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        assert tried.called
        assert self.driver()._rounds._thread.is_alive()

    def break_off(self, server, beside=0):
        """Rescue a server whose task Nova takes away meanwhile, as it does for queued requests when it starts."""
        driver, admin = self.driver(), nova_context.get_admin_context()
        power_off = driver.power_off

        def power_off_late(*arguments, **more):
            instance = objects.Instance.get_by_uuid(admin, server["id"])
            instance.task_state = None
            instance.save()
            power_off(*arguments, **more)
            time.sleep(1)  # what Nova needs to stop the server again, if it is told of the stop that it asked for

        with mock.patch.object(driver, "power_off", power_off_late):
            self.api.post_server_action(server["id"], {"rescue": {"adminPass": "secret-x"}})
            wait_until(lambda: len(self.world.containers) == 2 + beside and server["id"] not in driver._host.busy)
        wait_until(lambda: self.api.get_server(server["id"])["status"] == "ACTIVE")
        self._wait_for_instance_action_event(server, "rescue", "compute_rescue_instance", "Error")

    def test_a_hard_reboot_after_a_rescue_that_nova_took_back(self):
        server = self.boot()
        identity = self.container(server).id
        self.break_off(server)
        assert self.container(server).id != identity
        self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_instance_action_event(server, "reboot", "compute_reboot_instance", "Success")
        assert self.container(server).id == identity
        assert self.container(server).state is PowerState.RUNNING
        assert len(self.world.containers) == 1

    def test_a_shelf_gets_the_servers_files_after_a_rescue_that_nova_took_back(self):
        self.flags(shelved_offload_time=-1)
        server = self.boot()
        identity = self.container(server).id
        self.break_off(server)
        self.api.post_server_action(server["id"], {"shelve": {}})
        self._wait_for_state_change(server, "SHELVED")
        assert self.container(server).id == identity
        assert len(self.world.containers) == 1

    def test_a_restart_after_a_rescue_that_nova_took_back(self):
        server = self.boot()
        identity = self.container(server).id
        self.break_off(server)
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        wait_until(lambda: self.container(server).id == identity)
        wait_until(lambda: self.container(server).state is PowerState.RUNNING)
        assert self.api.get_server(server["id"])["status"] == "ACTIVE"

    def test_a_round_after_a_rescue_that_nova_took_back(self):
        server, rescued = self.boot(), self.boot(networks="none")
        identity = self.container(server).id
        self.rescue(rescued)
        rescuing = self.container(rescued).id
        self.break_off(server, beside=2)
        self.driver()._rounds.go()
        assert self.container(server).id == identity
        assert self.container(server).state is PowerState.RUNNING
        assert len(self.world.links) == 1
        assert self.container(rescued).id == rescuing

    def test_suspend_and_resume(self):
        server = self.boot()
        self.api.post_server_action(server["id"], {"suspend": None})
        suspended = self._wait_for_state_change(server, "SUSPENDED")
        assert suspended["OS-EXT-STS:power_state"] == power_state.SUSPENDED
        assert self.world.silent == set(self.world.links)
        assert self.diagnostics(server).state == "suspended"
        self.api.post_server_action(server["id"], {"resume": None})
        running = self._wait_for_state_change(server, "ACTIVE")
        assert running["OS-EXT-STS:power_state"] == power_state.RUNNING
        assert not self.world.silent

    def test_memory_that_was_lost_is_said(self):
        server = self.boot()
        self.api.post_server_action(server["id"], {"suspend": None})
        self._wait_for_state_change(server, "SUSPENDED")
        self.world.reboot_machine()
        self.api.post_server_action(server["id"], {"resume": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.container(server).state is PowerState.RUNNING
        admin = nova_context.get_admin_context()
        actions = objects.InstanceActionList.get_by_instance_uuid(admin, server["id"])
        (action,) = [found for found in actions if found.action == "resume"]
        events = objects.InstanceActionEventList.get_by_action(admin, action.id)
        (told,) = [found for found in events if found.event == "docker_suspended_memory_lost"]
        assert "memory is lost" in told.details

    def test_diagnostics_in_every_state(self):
        server = self.boot()
        for action, state, said in (("pause", "PAUSED", "paused"), ("unpause", "ACTIVE", "running")):
            self.api.post_server_action(server["id"], {action: None})
            self._wait_for_state_change(server, state)
            assert self.diagnostics(server).state == said
        self.rescue(server)
        assert self.diagnostics(server).state == "running"
        self.api.post_server_action(server["id"], {"unrescue": None})
        self._wait_for_state_change(server, "ACTIVE")
        self._stop_server(server)
        assert self.diagnostics(server).state == "shutdown"

    def test_a_crash_dump(self):
        server = self.boot(metadata={"docker_crash_signal": "SIGUSR2"})
        self.api.post_server_action(server["id"], {"trigger_crash_dump": None})
        wait_until(lambda: "kill SIGUSR2" in self.world.calls)
