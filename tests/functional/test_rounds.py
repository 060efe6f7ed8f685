# SPDX-License-Identifier: Apache-2.0
"""A round through Nova's own objects and database, on a host in memory."""

from __future__ import annotations

import pytest
from nova_case import NOTHING, ServersCase, wait_until

from dockstack.compute.model import PowerState

pytestmark = pytest.mark.functional


class TestRounds(ServersCase):
    def test_what_a_deleted_server_left_goes_and_nobody_else_is_touched(self):
        server, other = self.boot(), self.boot(networks="none")
        kept = self.container(server)
        self._delete_server(server)
        self.world.containers[kept.name] = kept  # as on a source that never heard of the delete

        self.driver()._rounds.go()
        assert list(self.world.containers) == [self.container(other).name]
        assert self.container(other).state is PowerState.RUNNING
        self._delete_server(other)
        assert self.world.leftovers() == NOTHING

    def test_a_server_on_the_shelf_and_one_that_is_stopped_are_left_alone(self):
        stopped, shelved = self.boot(), self.boot(networks="none")
        self._stop_server(stopped)
        self.flags(shelved_offload_time=-1)
        self.api.post_server_action(shelved["id"], {"shelve": {}})
        self._wait_for_state_change(shelved, "SHELVED")
        before = self.world.leftovers()
        self.driver()._rounds.go()
        assert self.world.leftovers() == before

    def test_the_thread_ends_with_the_service(self):
        thread = self.driver()._rounds._thread
        assert thread.is_alive()
        self.compute.stop()  # Nova waits for none of a host's threads where its own limit is 0 seconds, as in its tests
        wait_until(lambda: not thread.is_alive())
