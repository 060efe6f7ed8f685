# SPDX-License-Identifier: Apache-2.0
"""What a compute node no longer does for a server of its own comes to an end; what it does is left alone."""

from __future__ import annotations

import datetime as dt
from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects
from nova.compute import utils as compute_utils
from nova_case import NOTHING, ServersCase, wait_until
from oslo_messaging import MessagingTimeout
from oslo_utils import timeutils

from dockstack.compute.nova_api import forgotten_tasks

pytestmark = pytest.mark.functional

RPC = "nova.compute.rpcapi.ComputeAPI."
LONG = 3600  # seconds: whatever a test does is younger
EARLIER, LATER = dt.timedelta(hours=-1), dt.timedelta(hours=1)


class TestForgottenTasks(ServersCase):
    def lose(self, server, message, action=None):
        """Ask for something, by itself for a delete, and let the message to the compute node end on its way."""
        with mock.patch(RPC + message, autospec=True) as sent:
            if action is None:
                self.api.delete_server(server["id"])
            else:
                self.api.post_server_action(server["id"], action)
            wait_until(lambda: sent.called)
            instance = self.instance(server)
            wait_until(lambda: not forgotten_tasks._list_open_events(nova_context.get_admin_context(), instance))

    def begin(self, server, event="compute_suspend_instance"):
        """Write down that a compute node has begun, and never that it is done."""
        context = nova_context.get_admin_context()
        objects.InstanceActionEvent.event_start(context, server["id"], event, want_result=False, host="host1")

    def look(self, began=EARLIER, after=-1, busy=()):
        with mock.patch.object(forgotten_tasks, "FORGOTTEN", after):
            forgotten_tasks.end_all("host1", timeutils.utcnow() + began, busy.__contains__)

    def task(self, server):
        return self.api.get_server(server["id"])["OS-EXT-STS:task_state"]

    def test_one_that_nobody_began_can_be_asked_for_again(self):
        server = self.boot()
        self.lose(server, "suspend_instance", {"suspend": {}})
        assert self.task(server) == "suspending"
        self.look()
        found = self.api.get_server(server["id"])
        assert (found["status"], found["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
        self.api.post_server_action(server["id"], {"suspend": {}})
        self._wait_for_state_change(server, "SUSPENDED")

    def test_one_that_a_dead_process_began_is_a_fault_and_a_hard_reboot_helps(self):
        server = self.boot()
        self.lose(server, "suspend_instance", {"suspend": {}})
        self.begin(server)
        self.look(began=LATER)
        found = self.api.get_server(server["id"])
        assert (found["status"], found["OS-EXT-STS:task_state"]) == ("ERROR", None)
        assert "stopped during suspending" in found["fault"]["message"]
        self._reboot_server(server, hard=True)

    def test_what_is_young_or_being_done_is_left_alone(self):
        server = self.boot()
        self.lose(server, "suspend_instance", {"suspend": {}})
        self.look(after=LONG)
        self.look(busy=(server["id"],))
        assert self.task(server) == "suspending"
        event = ("compute_suspend_instance", "host1", server["id"])
        with compute_utils.EventReporter(nova_context.get_admin_context(), *event):
            self.look()
            assert self.task(server) == "suspending"

    def test_one_whose_failure_could_not_be_written_down_is_a_fault(self):
        """The process that began it lives, and works on it no more: the database was away when it failed."""
        server = self.boot()
        self.lose(server, "suspend_instance", {"suspend": {}})
        event = ("compute_suspend_instance", "host1", server["id"])
        away = mock.patch.object(objects.InstanceActionEvent, "event_finish_with_failure", side_effect=MessagingTimeout)
        reporter = compute_utils.EventReporter(nova_context.get_admin_context(), *event)
        with pytest.raises(MessagingTimeout), away, reporter:
            self.look()
        del reporter  # Nova has none after the request
        assert self.task(server) == "suspending"
        self.look()
        found = self.api.get_server(server["id"])
        assert (found["status"], found["OS-EXT-STS:task_state"]) == ("ERROR", None)
        assert "could not write that down" in found["fault"]["message"]
        self._reboot_server(server, hard=True)

    def test_a_build_whose_failure_could_not_be_written_down_is_a_fault(self):
        server = self.boot()
        instance = self.instance(server)
        instance.vm_state = "building"
        instance.save()
        self.begin(server, "compute__do_build_and_run_instance")
        self.look(after=60)
        self.look(busy=(server["id"],))
        assert self.api.get_server(server["id"])["status"] == "BUILD"
        self.look()
        found = self.api.get_server(server["id"])
        assert found["status"] == "ERROR"
        assert "Create it anew" in found["fault"]["message"]

    def test_a_step_on_another_host_counts_for_a_while(self):
        server = self.boot()
        self.lose(server, "suspend_instance", {"suspend": {}})
        context = nova_context.get_admin_context()
        objects.InstanceActionEvent.event_start(context, server["id"], "far", want_result=False, host="host2")
        self.look(began=LATER)
        assert self.task(server) == "suspending"
        with mock.patch.object(forgotten_tasks, "ELSEWHERE", -1):
            self.look(began=LATER)
        assert self.api.get_server(server["id"])["status"] == "ERROR"

    def test_a_revert_goes_on_from_either_of_its_steps(self):
        self.flags(allow_resize_to_same_host=True)
        bigger = self._create_flavor(vcpu=2, memory_mb=128, disk=2, ephemeral=0)
        server = self.boot()
        for lost in ("revert_resize", "finish_revert_resize"):
            self.api.post_server_action(server["id"], {"resize": {"flavorRef": bigger}})
            self._wait_for_state_change(server, "VERIFY_RESIZE")
            self.lose(server, lost, {"revertResize": None})
            assert self.task(server) == "resize_reverting"
            self.look()
            found = self._wait_for_state_change(server, "ACTIVE")
            assert found["flavor"]["ram"] == 64
            assert self.container(server).host_config["Memory"] >> 20 == 64
        self._delete_server(server)
        self._wait_until_deleted(server)
        usages = self._get_provider_usages(self._get_provider_uuid_by_host("host1"))
        assert not any(usages.values()), usages

    def test_a_delete_goes_on_whether_somebody_had_begun_or_not(self):
        for begun in (False, True):
            server = self.boot()
            self.lose(server, "terminate_instance")
            if begun:
                self.begin(server, "compute_terminate_instance")
            assert self.task(server) == "deleting"
            self.look(after=LONG)
            assert self.task(server) == "deleting"
            self.look(began=LATER)
            self._wait_until_deleted(server)
            assert self.world.leftovers() == NOTHING

    def test_a_delete_of_a_server_that_was_being_built_goes_on(self):
        server = self.boot()
        self.lose(server, "terminate_instance")
        instance = self.instance(server)
        instance.vm_state = "building"
        instance.save()
        self.look()
        self._wait_until_deleted(server)

    def test_a_delete_that_may_be_taken_back_goes_on(self):
        self.flags(reclaim_instance_interval=3600)
        server = self.boot()
        self.lose(server, "soft_delete_instance")
        assert self.task(server) == "soft-deleting"
        self.look()
        self._wait_for_state_change(server, "SOFT_DELETED")
        self.api.post_server_action(server["id"], {"restore": {}})
        self._wait_for_state_change(server, "ACTIVE")

    def test_one_that_cannot_be_ended_keeps_no_other(self):
        self.flags(allow_resize_to_same_host=True)
        bigger = self._create_flavor(vcpu=2, memory_mb=128, disk=2, ephemeral=0)
        first, second = self.boot(networks="none"), self.boot(networks="none")
        self.api.post_server_action(first["id"], {"resize": {"flavorRef": bigger}})
        self._wait_for_state_change(first, "VERIFY_RESIZE")
        self.lose(first, "revert_resize", {"revertResize": None})
        self.lose(second, "suspend_instance", {"suspend": {}})
        objects.RequestSpec.get_by_instance_uuid(nova_context.get_admin_context(), first["id"]).destroy()
        self.look()
        assert (self.task(first), self.task(second)) == ("resize_reverting", None)

    def test_a_move_that_stands_still_is_a_fault(self):
        self.flags(allow_resize_to_same_host=True)
        bigger = self._create_flavor(vcpu=2, memory_mb=128, disk=2, ephemeral=0)
        server = self.boot()
        self.lose(server, "finish_resize", {"resize": {"flavorRef": bigger}})
        assert self.task(server) == "resize_migrated"
        self.look()
        found = self.api.get_server(server["id"])
        assert (found["status"], found["OS-EXT-STS:task_state"]) == ("ERROR", None)
