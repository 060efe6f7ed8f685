# SPDX-License-Identifier: Apache-2.0
"""Interfaces attached and detached through Nova's API, on a host in memory."""

from __future__ import annotations

import fixtures
import pytest
from neutronclient.common.exceptions import ConnectionFailed
from nova.network import model as network_model
from nova.network import neutron as network_api
from nova_case import IMAGE, NOTHING, ServersCase, wait_until

from dockstack.compute.containers import editor
from dockstack.compute.model import PowerState
from dockstack.compute.network.ovs import PlugError
from fake_host import Fault

pytestmark = pytest.mark.functional


class TestInterfaces(ServersCase):
    def attach(self, server, tag=None):
        request = {"net_id": self.neutron.network_1["id"]} | ({"tag": tag} if tag else {})
        return self.api.attach_interface(server["id"], {"interfaceAttachment": request})

    def interfaces(self):
        return sorted(self.world.wired[device]["interface"] for device in list(self.world.links))

    def test_attach_survives_and_detach_leaves_nothing(self):
        self.flags(resume_guests_state_on_host_boot=True)
        server = self.boot()
        self.attach(server)
        assert self.interfaces() == ["eth0", "eth1"]
        assert len(self.world.switch) == 2

        self._reboot_server(server, hard=True)
        self._stop_server(server)
        self._start_server(server)
        self.world.reboot_machine()
        wait_until(lambda: self.container(server).state is PowerState.RUNNING)
        wait_until(lambda: self.interfaces() == ["eth0", "eth1"])

        self.api.detach_interface(server["id"], self.neutron.port_2["id"])
        wait_until(lambda: self.interfaces() == ["eth0"])
        wait_until(lambda: len(self.world.switch) == 1)
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_a_stopped_server(self):
        server = self.boot()
        self._stop_server(server)
        self.attach(server)
        assert self.world.silent == set(self.world.links)

        self._start_server(server)
        assert not self.world.silent
        assert self.interfaces() == ["eth0", "eth1"]

    def test_a_failed_attach_leaves_the_server_as_it_was(self):
        server = self.boot()
        before = self.world.leftovers()
        self.world.fault = Fault("plug", lambda: PlugError("The switch is full."))
        with pytest.raises(Exception, match="Failed to attach network adapter"):
            self.attach(server)
        assert self.world.leftovers() == before

    def test_tags_reach_the_metadata_service(self):
        port = {"port": self.neutron.port_1["id"], "tag": "first"}
        server = self.boot(networks=[port])
        self.attach(server, tag="second")

        def tags():
            metadata = self.instance(server).device_metadata
            return {device.mac: device.tags for device in metadata.devices} if metadata else {}

        assert tags() == {
            self.neutron.port_1["mac_address"]: ["first"],
            self.neutron.port_2["mac_address"]: ["second"],
        }
        self.api.detach_interface(server["id"], self.neutron.port_2["id"])
        wait_until(lambda: tags() == {self.neutron.port_1["mac_address"]: ["first"]})

    def test_a_running_servers_hosts_file_names_the_addresses_that_are_left(self):
        written = []
        for name, stand_in in {
            "read": lambda _pid, _identity: "\n".join(editor.OWN_LINES).encode(),
            "replace": lambda _pid, _identity, _found, content: written.append(content.decode()),
        }.items():
            self.useFixture(fixtures.MonkeyPatch(f"dockstack.compute.privileged.hosts_file.{name}", stand_in))
        second = self.neutron.port_2["fixed_ips"][0]["ip_address"]
        server = self.boot()
        first = next(iter(self.instance(server).get_network_info().fixed_ips()))["address"]
        self.attach(server)
        self.api.detach_interface(server["id"], self.neutron.port_2["id"])
        wait_until(lambda: len(written) == 2)
        both, left = written
        assert first in both
        assert second in both
        assert first in left
        assert second not in left

    def test_a_server_deleted_with_an_attached_interface(self):
        server = self.boot()
        self.attach(server)
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_addresses_follow_neutron(self):
        server = self.boot()
        instance = self.instance(server)
        network_info = instance.get_network_info()
        (address,) = network_info[0]["network"]["subnets"][0]["ips"]
        address["address"] = "192.168.1.77"

        self.driver().inject_network_info(instance, network_info)
        (nic,) = self.world.wired.values()
        assert nic["addresses"][0].startswith("192.168.1.77/")

    def test_a_paused_server_is_silent(self):
        server = self.boot()
        self.api.post_server_action(server["id"], {"pause": None})
        self._wait_for_state_change(server, "PAUSED")
        assert self.world.silent == set(self.world.links)
        self.api.post_server_action(server["id"], {"unpause": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert not self.world.silent


class TestRecordsThatAreWrong(ServersCase):
    """What Nova remembers of a server's ports may be empty, or of a moment in which no host had them."""

    def forget(self, server):
        """Leave what a refresh leaves that comes while Neutron's API is starting."""
        cache = self.instance(server).info_cache
        cache.network_info = network_model.NetworkInfo([])
        cache.save()

    def unbind(self, server):
        """Leave what a shelve leaves that is broken off after it took the ports from the host."""
        for binding in self.neutron._port_bindings[self.neutron.port_1["id"]].values():
            binding["vif_type"] = "unbound"
        cache = self.instance(server).info_cache
        for vif in cache.network_info:
            vif["type"] = "unbound"
        cache.network_info = network_model.NetworkInfo(cache.network_info)
        cache.save()

    def restart(self):
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)

    def test_a_reboot_and_a_start_read_an_empty_record_anew(self):
        server = self.boot()
        links = dict(self.world.links)
        self.forget(server)
        self._reboot_server(server, hard=True)
        assert self.world.links == links
        self._stop_server(server)
        self.forget(server)
        self._start_server(server)
        assert self.world.links == links
        assert len(self.instance(server).get_network_info()) == 1

    def test_recovery_reads_an_empty_record_anew(self):
        self.flags(resume_guests_state_on_host_boot=True)
        server = self.boot()
        links = dict(self.world.links)
        self.forget(server)
        self.world.reboot_machine()
        wait_until(lambda: self.container(server).state is PowerState.RUNNING)
        assert self.world.links == links

    def test_no_server_starts_without_its_network_while_neutron_does_not_answer(self):
        server = self.boot()
        links = dict(self.world.links)
        self._stop_server(server)
        self.forget(server)
        read = network_api.API.get_instance_nw_info
        silent = [True]

        def answer(*arguments, force_refresh=False, **more):
            if force_refresh and silent:
                raise ConnectionFailed(reason="no route")
            return read(*arguments, force_refresh=force_refresh, **more)

        self.useFixture(fixtures.MockPatchObject(network_api.API, "get_instance_nw_info", answer))
        self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        failed = self._wait_for_state_change(server, "ERROR")
        assert "when Neutron answers again" in failed["fault"]["message"]
        assert self.container(server).state is PowerState.SHUTDOWN
        silent.clear()
        self.api.post_server_action(server["id"], {"reboot": {"type": "HARD"}})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.world.links == links

    def test_a_server_that_has_no_ports_starts_without_asking(self):
        server = self.boot(networks="none")
        self.useFixture(fixtures.MockPatchObject(network_api.API, "list_ports", side_effect=AssertionError))
        self._reboot_server(server, hard=True)
        assert self.container(server).state is PowerState.RUNNING

    def test_unbound_ports_do_not_break_a_server_when_nova_compute_starts(self):
        server = self.boot()
        self.unbind(server)
        self.restart()
        assert self.api.get_server(server["id"])["status"] == "ACTIVE"
        self._stop_server(server)
        self.unbind(server)
        self.restart()
        assert self.api.get_server(server["id"])["status"] == "SHUTOFF"

    def test_a_rebuild_where_a_move_broke_off_binds_the_ports_of_the_other_host(self):
        server = self.boot()
        bindings = self.neutron._port_bindings[self.neutron.port_1["id"]]
        bindings["another"] = bindings.pop("host1") | {"host": "another"}
        del self.world.containers[self.container(server).name]
        self.api.post_server_action(server["id"], {"rebuild": {"imageRef": IMAGE}})
        self._wait_for_instance_action_event(server, "rebuild", "compute_rebuild_instance", "Success")
        assert bindings["host1"]["host"] == "host1"
        assert self.container(server).state is PowerState.RUNNING

    def test_a_hard_reboot_binds_ports_again(self):
        server = self.boot()
        self.unbind(server)
        self._reboot_server(server, hard=True)
        (vif,) = self.instance(server).get_network_info()
        assert vif["type"] == "ovs"
        (binding,) = self.neutron._port_bindings[self.neutron.port_1["id"]].values()
        assert (binding["host"], binding["vif_type"]) == ("host1", "ovs")
        assert len(self.world.switch) == 1
