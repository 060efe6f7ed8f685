# SPDX-License-Identifier: Apache-2.0
"""A server of which its host has nothing comes back: from the shelf, or from the host that it moved from."""

from __future__ import annotations

from contextlib import nullcontext
from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects
from nova.compute import task_states, vm_states
from nova_case import NOTHING, ServersCase

from dockstack.compute.nova_api import absent, reverts

pytestmark = pytest.mark.functional


class TestShelf(ServersCase):
    def shelve(self):
        server = self.boot()
        self.api.post_server_action(server["id"], {"shelve": {}})
        return self._wait_for_state_change(server, "SHELVED_OFFLOADED")

    def break_off(self, server, **state):
        """Leave a server as the end of nova-compute does while it returns from the shelf."""
        instance = self.instance(server)
        self.base = instance.image_ref
        (node,) = self.compute.manager.rt.compute_nodes.values()
        instance.host, instance.node, instance.compute_id = node.host, node.hypervisor_hostname, node.id
        instance.image_ref = instance.system_metadata["shelved_image_id"]
        for name, value in {"vm_state": vm_states.ERROR, "task_state": None, **state}.items():
            setattr(instance, name, value)
        instance.save()

    def test_a_return_that_was_broken_off_can_be_asked_for_again(self):
        server = self.shelve()
        self.break_off(server)
        self.driver()._rounds.go()
        instance = self.instance(server)
        assert (instance.vm_state, instance.host, instance.node) == (vm_states.SHELVED_OFFLOADED, None, None)
        assert instance.image_ref == self.base
        self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.instance(server).image_ref == self.base
        assert len(self.world.containers) == 1
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_so_can_one_whose_state_was_reset(self):
        server = self.shelve()
        self.break_off(server, vm_state=vm_states.ACTIVE)
        self.driver()._rounds.go()
        assert self.instance(server).vm_state == vm_states.SHELVED_OFFLOADED

    def test_nobody_is_put_there_who_is_here_or_is_worked_on_or_has_no_image_there(self):
        self.flags(shelved_offload_time=-1)
        here, other = self.boot(networks="none"), self.boot(networks="none")
        self.api.post_server_action(here["id"], {"shelve": {}})
        self._wait_for_state_change(here, "SHELVED")
        self.driver()._rounds.go()
        absent.bring_back_all("host1", {here["id"]}, lambda _: nullcontext())  # of the other one, nothing is here
        assert self.instance(here).vm_state == vm_states.SHELVED
        assert self.instance(other).vm_state == vm_states.ACTIVE
        assert self.instance(other).host == "host1"
        instance = self.instance(here)
        instance.task_state = task_states.SHELVING_OFFLOADING
        instance.save()
        absent.bring_back_all("host1", set(), lambda _: nullcontext())
        assert self.instance(here).vm_state == vm_states.SHELVED


class TestReverts(ServersCase):
    """A second host in Nova's records only: what is asked of it is looked at, and others test what it does then."""

    def setUp(self):
        super().setUp()
        self.flags(allow_resize_to_same_host=True)
        larger = self._create_flavor(vcpu=2, memory_mb=128, disk=2, ephemeral=0)
        self.server = self.boot(networks="none")
        self.api.post_server_action(self.server["id"], {"resize": {"flavorRef": larger}})
        self._wait_for_state_change(self.server, "VERIFY_RESIZE")
        self.context = nova_context.get_admin_context()
        (self.migration,) = objects.MigrationList.get_by_filters(self.context, {"instance_uuid": self.server["id"]})
        self.migration.source_compute = "elsewhere"
        objects.Service(self.context, host="elsewhere", binary="nova-compute", topic="compute").create()
        up = mock.patch(
            "nova.servicegroup.API.service_is_up", autospec=True, side_effect=lambda *asked: self.is_up(asked[-1])
        )
        up.start()
        self.addCleanup(up.stop)
        self.down = set()

    def is_up(self, service):
        return service.host not in self.down

    def break_off(self, status="reverted", **state):
        """Leave the server as a revert does whose second step was lost, and whose state was reset."""
        self.migration.status = status
        self.migration.save()
        instance = self.instance(self.server)
        for name, value in {"vm_state": vm_states.ERROR, "task_state": None, **state}.items():
            setattr(instance, name, value)
        instance.save()

    def bring_back(self):
        with mock.patch("nova.compute.rpcapi.ComputeAPI.finish_revert_resize", autospec=True) as sent:
            absent.bring_back_all("host1", set(), lambda _: nullcontext())
        return [(call.args[-4].uuid, call.args[-3].id, call.args[-2]) for call in sent.call_args_list]

    def test_its_files_are_asked_for_where_it_moved_from(self):
        for state in ({}, {"vm_state": vm_states.ACTIVE}, {"status": "error"}):
            self.break_off(**state)
            assert self.bring_back() == [(self.server["id"], self.migration.id, "elsewhere")], state
            assert self.instance(self.server).task_state == task_states.RESIZE_REVERTING
            assert self.bring_back() == []  # the message is on its way

    def test_nobody_is_asked_who_is_down_and_the_server_waits(self):
        self.break_off()
        self.down.add("elsewhere")
        assert self.bring_back() == []
        assert self.instance(self.server).task_state is None
        instance = self.instance(self.server)
        with mock.patch("nova.compute.rpcapi.ComputeAPI.finish_revert_resize", autospec=True) as sent:
            reverts.go_on(self.context, instance)
            assert not sent.called
            self.down.clear()
            reverts.go_on(self.context, instance)
            assert sent.called

    def test_a_move_that_came_to_its_end_stays(self):
        for status in ("finished", "confirmed"):
            self.break_off(status=status)
            assert self.bring_back() == []
            assert self.instance(self.server).task_state is None

    def test_a_server_that_is_here_stays(self):
        self.break_off()
        with mock.patch("nova.compute.rpcapi.ComputeAPI.finish_revert_resize", autospec=True) as sent:
            self.driver()._rounds.go()
        assert not sent.called
