# SPDX-License-Identifier: Apache-2.0
"""Servers through Nova's real API, conductor, scheduler and compute manager in one process, on a host in memory."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import fixtures
import pytest
from nova import context as nova_context
from nova import utils
from nova.compute import power_state
from nova.scheduler.client.report import SchedulerReportClient
from nova.tests.functional.api import client as api_client
from nova_case import IMAGE, NOTHING, ServersCase, wait_until
from oslo_utils import timeutils

from dockstack.compute.engine import EngineFull
from dockstack.compute.model import PowerState
from dockstack.compute.network.ovs import PlugError
from dockstack.compute.resources.usage import Memory
from fake_host import Fault, image_archive

pytestmark = pytest.mark.functional

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO3ZNBwVwn3Ib5EDB0pEBNzKDKGtC7BAFpf3bAsNLyrG me"


class TestServers(ServersCase):
    def test_boot_and_delete(self):
        server = self.boot(metadata={"docker_env_SIZE": "large"})

        container = self.container(server)
        assert container.state is PowerState.RUNNING
        assert server["OS-EXT-STS:power_state"] == power_state.RUNNING
        assert container.labels["org.openstack.nova.host"] == "host1"
        assert container.labels["org.openstack.nova.flavor"] == server["flavor"]["original_name"]
        assert container.labels["org.openstack.nova.image"] == IMAGE
        assert container.labels["org.openstack.nova.project"] == server["tenant_id"]
        spec = self.world.specs[container.name]
        assert "COLOUR=green" in spec.environment, "a property that Nova does not know"
        assert "SIZE=large" in spec.environment, "the server's metadata"
        assert spec.hostname == server["OS-EXT-SRV-ATTR:hostname"]
        (nic,) = self.world.wired.values()
        port = self.neutron.port_1
        assert nic["mac"] == port["mac_address"]
        assert [cidr.partition("/")[0] for cidr in nic["addresses"]] == [ip["ip_address"] for ip in port["fixed_ips"]]

        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_a_boot_asks_placement_nothing_about_other_servers(self):
        other = self.boot(networks="none")
        asked = []
        read = SchedulerReportClient.get_allocs_for_consumer
        self.useFixture(
            fixtures.MonkeyPatch(
                "nova.scheduler.client.report.SchedulerReportClient.get_allocs_for_consumer",
                lambda client, context, consumer: asked.append(consumer) or read(client, context, consumer),
            )
        )
        self.boot()
        self._run_periodics()
        assert other["id"] not in asked

    def test_stop_and_start(self):
        server = self.boot()
        identity = self.container(server).id

        self._stop_server(server)
        assert self.container(server).state is PowerState.SHUTDOWN
        assert "stop 60" in self.world.calls, "Nova's shutdown_timeout"
        started = self._start_server(server)
        assert started["OS-EXT-STS:power_state"] == power_state.RUNNING
        assert self.container(server).id == identity

    def test_pause_and_unpause(self):
        server = self.boot()

        self.api.post_server_action(server["id"], {"pause": None})
        paused = self._wait_for_state_change(server, "PAUSED")
        assert paused["OS-EXT-STS:power_state"] == power_state.PAUSED
        assert self.container(server).state is PowerState.PAUSED
        self.api.post_server_action(server["id"], {"unpause": None})
        running = self._wait_for_state_change(server, "ACTIVE")
        assert running["OS-EXT-STS:power_state"] == power_state.RUNNING

    def test_reboots_keep_the_container(self):
        server = self.boot()
        identity, links = self.container(server).id, dict(self.world.links)

        for kind in ("SOFT", "HARD"):
            self._reboot_server(server, hard=kind == "HARD")
            assert self.container(server).id == identity
            assert self.container(server).state is PowerState.RUNNING
            assert self.world.links == links
        assert "stop 30" in self.world.calls
        assert "stop 0" in self.world.calls

    def test_soft_delete_and_restore(self):
        self.flags(reclaim_instance_interval=3600)
        server = self.boot()

        self.api.delete_server(server["id"])
        self._wait_for_state_change(server, "SOFT_DELETED")
        assert self.container(server).state is PowerState.SHUTDOWN
        self.api.post_server_action(server["id"], {"restore": {}})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.container(server).state is PowerState.RUNNING

    def test_a_config_drive_has_what_nova_writes(self):
        data = base64.b64encode(b"#!/bin/sh\n").decode()
        server = self.boot(config_drive=True, user_data=data, metadata={"colour": "green"}, networks=None)
        assert server["config_drive"] == "True"

        drive = self.world.directory / "drives" / server["id"]
        found = json.loads((drive / "openstack/latest/meta_data.json").read_text())
        assert found["uuid"] == server["id"]
        assert found["hostname"] == server["OS-EXT-SRV-ATTR:hostname"] + ".novalocal"
        assert found["meta"] == {"colour": "green"}
        assert found["admin_pass"]
        assert (drive / "openstack/latest/user_data").read_bytes() == b"#!/bin/sh\n"
        network = json.loads((drive / "openstack/latest/network_data.json").read_text())
        assert [link["ethernet_mac_address"] for link in network["links"]] == [self.neutron.port_1["mac_address"]]
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_a_password_is_set_and_kept_for_its_owner(self):
        server = self.boot()
        self.api.post_server_action(server["id"], {"changePassword": {"adminPass": "geheim"}})
        ((command, stdin),) = self.world.executed
        assert command == ["chpasswd", "-e"]
        assert stdin.startswith(b"root:$6$")
        assert self.instance(server).task_state is None

    def test_a_server_that_cannot_have_a_password_is_no_error(self):
        server = self.boot()
        self.world.exit_code = 127
        with pytest.raises(api_client.OpenStackApiException) as refused:
            self.api.post_server_action(server["id"], {"changePassword": {"adminPass": "geheim"}})
        assert refused.value.response.status_code == 409
        assert "has no user 'root' with a password" in str(refused.value)
        assert self.api.get_server(server["id"])["status"] == "ACTIVE"

    def test_files_are_injected_where_the_api_still_has_them(self):
        content = base64.b64encode(b"hello").decode()
        with utils.temporary_mutation(self.api, microversion="2.56"):
            self.boot(personality=[{"path": "/etc/motd", "contents": content}])
        assert self.world.placed == {"/etc/motd": b"hello"}

    def test_a_key_is_placed_and_a_server_off_the_shelf_gets_none(self):
        self.api.post_keypair({"keypair": {"name": "mine", "public_key": PUBLIC_KEY}})
        server = self.boot(key_name="mine")
        assert self.world.placed["/root/.ssh/authorized_keys"].decode().strip() == PUBLIC_KEY
        self.world.placed.clear()
        self._rebuild_server(server, IMAGE)
        assert "/root/.ssh/authorized_keys" in self.world.placed

    def test_an_operator_or_an_image_can_force_a_config_drive(self):
        assert self.boot()["config_drive"] == ""
        self.flags(force_config_drive=True)
        assert self.boot(networks="none")["config_drive"] == "True"
        self.flags(force_config_drive=False)
        wanting = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000dd"
        self.images.add(wanting, image_archive(), {"img_config_drive": "mandatory"})
        server = self.boot(image=wanting, networks="none")
        assert server["config_drive"] == "True"
        assert (self.world.directory / "drives" / server["id"]).is_dir()

    def test_console_output(self):
        server = self.boot()
        self.world.log = "first\nsecond £\nthird\n".encode("latin-1")

        output = self.api.post_server_action(server["id"], {"os-getConsoleOutput": {"length": 2}})
        assert output["output"].splitlines()[-1] == "third"

    def test_diagnostics(self):
        server = self.boot()

        found = self.api.api_get(f"/servers/{server['id']}/diagnostics").body
        assert found["state"] == "running"
        assert found["hypervisor"] == "docker"
        assert found["num_cpus"] == 1
        assert found["memory_details"]["maximum"] == 64
        with utils.temporary_mutation(self.api, microversion="2.1"):
            assert self.api.api_get(f"/servers/{server['id']}/diagnostics").body["memory"] == 64 * 1024

    def test_a_server_that_shuts_itself_down_is_shutoff_at_once(self):
        server = self.boot()
        wait_until(lambda: self.world.streams)

        self.world.exit_server(server["id"])
        self._wait_for_state_change(server, "SHUTOFF")

    def test_a_server_that_ends_at_once_says_why(self):
        server = self.boot()
        wait_until(lambda: self.world.streams)
        self.world.log = b"/bin/sh: nothing to do"
        instance = self.instance(server)
        instance.launched_at = timeutils.utcnow()  # however long this machine needed until here
        instance.save()

        self.world.exit_server(server["id"], seconds=1, command=("/bin/sh",))
        self._wait_for_state_change(server, "ERROR")
        said = "The first process (/bin/sh) ended after 1.0 s with status 0. So does a shell without a terminal"
        found = self.api.get_server(server["id"])
        assert said in found["fault"]["message"]
        assert found["fault"]["message"].endswith("a docker_command that stays")
        assert found["OS-EXT-STS:power_state"] == 4
        output = self.api.post_server_action(server["id"], {"os-getConsoleOutput": {}})["output"].splitlines()
        assert output[0] == "/bin/sh: nothing to do"
        assert output[1].startswith(f"[dockstack] {said}")

    def test_a_server_that_is_killed_or_no_longer_new_is_shutoff(self):
        for number, (code, seconds, age) in enumerate(((137, 1, 0), (1, 1, 12))):
            server = self.boot(networks="none")
            wait_until(lambda: self.world.streams)
            instance = self.instance(server)
            instance.launched_at -= timedelta(seconds=age)
            instance.save()

            self.world.exit_server(server["id"], code, seconds, command=("/bin/sh",))
            self._wait_for_state_change(server, "SHUTOFF")
            assert (
                number or "SIGKILL" in self.api.post_server_action(server["id"], {"os-getConsoleOutput": {}})["output"]
            )

    def test_two_servers_share_one_fetch(self):
        self.boot()
        self.boot(networks="none")

        assert self.world.calls.count("load_image") == 1

    def test_a_periodic_round_costs_one_call(self):
        self.boot()
        self.boot(networks="none")
        wait_until(lambda: not self.compute.manager._syncs_in_progress)
        self.rest()
        self.world.calls.clear()

        self.compute.manager._sync_power_states(nova_context.get_admin_context())
        wait_until(lambda: not self.compute.manager._syncs_in_progress)
        assert self.world.calls == ["containers"]


class TestFaults(ServersCase):
    def fault_of(self, server) -> str:
        return self.api.get_server(server["id"])["fault"]["message"]

    def test_a_broken_image(self):
        broken = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000bb"
        self.images.add(broken, b"no archive")
        server = self.boot(image=broken, expected="ERROR")

        assert "image" in self.fault_of(server).lower()
        assert self.world.leftovers() == NOTHING

    def test_an_image_that_says_nothing_to_run(self):
        silent = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000cc"
        self.images.add(silent, image_archive(Cmd=[]))
        server = self.boot(image=silent, expected="ERROR")

        assert "does not say what to run" in self.fault_of(server)
        assert self.world.leftovers() == NOTHING

    def test_an_absent_engine(self):
        self.world.engine_up = False
        server = self.boot(expected="ERROR")

        assert "The container engine did not answer" in self.fault_of(server)
        self.world.engine_up = True
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_any_failing_step_names_its_cause_and_leaves_nothing(self):
        self.world.calls.clear()
        self._delete_server(self.boot())
        steps = self.world.calls.index("start") + 1
        for step in range(1, steps + 1):
            self.rest()
            self.world.revive()
            self.world.images.clear()
            error = PlugError("The switch is full.") if step % 2 else EngineFull("The disk is full.")
            self.world.fault = Fault(step, lambda error=error: error, after=bool(step % 3))
            server = self.boot(expected="ERROR")
            assert error.brief in self.fault_of(server), self.world.calls
            self.world.fault = None
            assert self.world.leftovers() == NOTHING, f"step {step}"
            self._delete_server(server)

    def test_what_a_container_cannot_have_is_refused_by_name(self):
        self.world.memory = Memory(total_mb=16384, available_mb=12288, swap_mb=0)
        self.flavor = self._create_flavor(vcpu=1, memory_mb=64, disk=1, swap=64, ephemeral=0)
        server = self.boot(expected="ERROR")

        assert "swap" in self.fault_of(server)
        assert self.world.leftovers() == NOTHING

    def test_a_port_that_neutron_does_not_plug(self):
        self.flags(vif_plugging_timeout=1, vif_plugging_is_fatal=True)
        self.useFixture(fixtures.MonkeyPatch("nova.network.model.VIF.get", report_inactive))
        server = self.boot(expected="ERROR")

        assert "Neutron did not report" in self.fault_of(server)
        assert self.world.leftovers() == NOTHING

    def test_a_port_that_the_switch_calls_complete_needs_no_word_of_neutron(self):
        self.flags(vif_plugging_timeout=300, vif_plugging_is_fatal=True)
        self.useFixture(fixtures.MonkeyPatch("nova.network.model.VIF.get", report_inactive))
        self.useFixture(fixtures.MonkeyPatch("dockstack.compute.network.ovs.wait_installed", set))
        server = self.boot()

        assert self.container(server).state is PowerState.RUNNING

    def test_a_port_that_neutron_does_not_plug_may_be_passed_over(self):
        self.flags(vif_plugging_timeout=1, vif_plugging_is_fatal=False)
        self.useFixture(fixtures.MonkeyPatch("nova.network.model.VIF.get", report_inactive))
        server = self.boot()

        assert self.container(server).state is PowerState.RUNNING

    def test_a_server_whose_container_vanished_can_be_deleted(self):
        server = self.boot()
        self.world.containers.clear()

        self._delete_server(server)
        leftovers = self.world.leftovers()
        assert leftovers.pop("patches"), "its name went with the container"
        assert not any(leftovers.values())

    def test_a_delete_that_failed_can_be_repeated(self):
        server = self.boot()
        self.world.engine_up = False
        self.api.delete_server(server["id"])
        self._wait_for_state_change(server, "ERROR")
        assert "did not answer" in self.fault_of(server)
        assert self.world.links, "a server that may still run keeps its network"

        self.world.engine_up = True
        self.api.delete_server(server["id"])  # while it goes, Nova still shows the earlier error
        wait_until(lambda: self.world.leftovers() == NOTHING)


def report_inactive(vif, key, default=None):
    return False if key == "active" else dict.get(vif, key, default)
