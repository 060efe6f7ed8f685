# SPDX-License-Identifier: Apache-2.0
"""nova-compute, the engine or the machine dies and comes back: Nova and the host agree again, nothing is left over."""

from __future__ import annotations

import threading

import fixtures
import pytest
from nova import objects
from nova.compute import power_state
from nova_case import IMAGE, NOTHING, ServersCase, wait_until

from dockstack.compute.model import PowerState
from dockstack.compute.nova_api import records

pytestmark = pytest.mark.functional


class TestComputeRestarts(ServersCase):
    def restart(self):
        self.world.revive()
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)

    def die_after(self, call: str, work):
        """Let the process be killed after its next call of that name.

        Its thread must not unwind, or Nova's own clean-up would run: it stays where it is until the test is over.
        """
        self.world.grave = threading.Event()
        self.addCleanup(self.world.grave.set)
        self.world.calls.clear()
        self.world.kill_after = call
        result = work()
        wait_until(lambda: self.world.dead)
        return result

    def check_killed_build(self, call: str):
        request = self._build_server(
            image_uuid=IMAGE, flavor_id=self.flavor, networks=[{"port": self.neutron.port_1["id"]}]
        )
        server = self.die_after(call, lambda: self.api.post_server({"server": request}))
        assert any(self.world.leftovers().values()) or call == "load_image"

        self.restart()
        server = self._wait_for_state_change(server, "ERROR")
        assert "Delete the server and create it again" in server["fault"]["message"]
        assert self.world.leftovers() == NOTHING

    def test_killed_while_fetching_the_image(self):
        self.check_killed_build("load_image")

    def test_killed_while_plugging(self):
        self.check_killed_build("plug")

    def test_killed_while_creating(self):
        self.check_killed_build("create")

    def test_killed_while_starting(self):
        self.check_killed_build("start")

    def test_killed_while_deleting(self):
        server = self.boot()
        self.die_after("unplug_device", lambda: self.api.delete_server(server["id"]))
        assert self.world.links
        # In one process the dead thread would hold its locks for ever; unwinding, it finds nothing more to do.
        self.world.grave.set()
        busy = self.driver()._host.busy
        wait_until(lambda: server["id"] not in busy)

        self.restart()
        self._wait_until_deleted(server)
        assert self.world.leftovers() == NOTHING

    def test_deleted_while_compute_was_away(self):
        server, other = self.boot(), self.boot(networks="none")
        self.compute.stop()
        self.api.put_service_force_down(self._service(), forced_down=True)
        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)
        assert f"nova-{server['id']}" in self.world.containers

        self.api.put_service_force_down(self._service(), forced_down=False)
        self.restart()
        assert list(self.world.containers) == [f"nova-{other['id']}"]
        assert self.container(other).state is PowerState.RUNNING
        assert not self.world.links

    def _service(self):
        return self.api.get_services(host="host1", binary="nova-compute")[0]["id"]

    def test_running_servers_do_not_notice(self):
        server = self.boot()
        before, container = self.world.leftovers(), self.container(server)

        self.restart()
        assert self.world.leftovers() == before
        assert self.container(server) is container
        assert self.api.get_server(server["id"])["status"] == "ACTIVE"

    def test_the_machine_reboots(self):
        self.flags(resume_guests_state_on_host_boot=True)
        running, stopped = self.boot(), self.boot(networks="none")
        self._stop_server(stopped)
        links, identity = dict(self.world.links), self.container(running).id
        self.compute.stop()
        self.world.reboot_machine()

        self.restart()
        assert self.container(running).state is PowerState.RUNNING
        assert self.container(running).id == identity
        assert self.world.links == links
        assert self.container(stopped).state is PowerState.SHUTDOWN
        assert self.api.get_server(running["id"])["OS-EXT-STS:power_state"] == power_state.RUNNING


class TestEngineRestarts(ServersCase):
    def setUp(self):
        super().setUp()
        self.flags(resume_guests_state_on_host_boot=True)
        wait_until(lambda: self.world.streams)

    def bounce(self, *, servers_survive):
        self.world.crash_engine(servers_survive=servers_survive)
        self.world.calls.clear()
        self.world.engine_up = True
        wait_until(lambda: self.world.streams)

    def test_servers_that_survive_are_not_touched(self):
        server = self.boot()
        self.bounce(servers_survive=True)

        wait_until(lambda: "list_plugged" in self.world.calls)
        assert self.container(server).state is PowerState.RUNNING
        assert not {"start", "stop", "remove", "wire"} & set(self.world.calls)

    def test_servers_that_fell_with_it_run_again(self):
        server, stopped = self.boot(), self.boot(networks="none")
        self._stop_server(stopped)
        self.bounce(servers_survive=False)

        wait_until(lambda: self.container(server).state is PowerState.RUNNING)
        assert self.container(stopped).state is PowerState.SHUTDOWN
        assert self.api.get_server(server["id"])["status"] == "ACTIVE"

    def test_recovery_reads_each_server_in_one_go(self):
        """What is not read with a server is one call to the conductor more for each, when all start at once."""
        lost = [self.boot(), self.boot(networks="none"), self.boot(networks="none")]
        lazy = []
        load, read = objects.Instance.obj_load_attr, objects.Instance.get_by_uuid
        reads = []

        def loading(instance, name):
            if threading.current_thread().name == "engine-events":
                lazy.append(name)
            return load(instance, name)

        def reading(*arguments, **more):
            if more.get("expected_attrs") == records.DESCRIBED:
                reads.append(arguments[-1])
            return read(*arguments, **more)

        self.useFixture(fixtures.MockPatchObject(objects.Instance, "obj_load_attr", loading))
        self.useFixture(fixtures.MockPatchObject(objects.Instance, "get_by_uuid", reading))
        self.bounce(servers_survive=False)
        wait_until(lambda: all(self.container(server).state is PowerState.RUNNING for server in lost))
        self.rest()
        assert lazy == []
        assert sorted(reads) == sorted(server["id"] for server in lost)

    def test_a_server_that_is_stopped_while_others_start_stays_stopped(self):
        server = self.boot()
        driver = self.driver()
        reading = driver._read_wanted

        def meanwhile(server_uuid):
            instance = self.instance(server)
            instance.task_state = "powering-off"  # the user's request has come, and waits for its turn
            instance.save()
            return reading(server_uuid)

        driver._follower._on_listing._read_wanted = meanwhile
        self.bounce(servers_survive=False)
        self.rest()
        assert self.container(server).state is PowerState.SHUTDOWN

    def test_servers_that_fell_with_it_are_shutoff_if_nobody_wants_them_resumed(self):
        self.flags(resume_guests_state_on_host_boot=False)
        server = self.boot()
        self.bounce(servers_survive=False)

        self._wait_for_state_change(server, "SHUTOFF")
