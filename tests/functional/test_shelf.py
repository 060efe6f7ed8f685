# SPDX-License-Identifier: Apache-2.0
"""A server whose files are on the shelf alone can be unshelved, wherever its shelve or unshelve was broken off."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from nova.compute import task_states, vm_states
from nova_case import NOTHING, ServersCase

from dockstack.compute.nova_api import shelf

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
        shelf.return_all("host1", {here["id"]}, lambda _: nullcontext())  # of the other one, nothing is here
        assert self.instance(here).vm_state == vm_states.SHELVED
        assert self.instance(other).vm_state == vm_states.ACTIVE
        assert self.instance(other).host == "host1"
        instance = self.instance(here)
        instance.task_state = task_states.SHELVING_OFFLOADING
        instance.save()
        shelf.return_all("host1", set(), lambda _: nullcontext())
        assert self.instance(here).vm_state == vm_states.SHELVED
