# SPDX-License-Identifier: Apache-2.0
"""Interfaces attached and detached through Nova's API, on a host in memory."""

from __future__ import annotations

import pytest
from nova_case import NOTHING, ServersCase, wait_until

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
        self.world.calls.clear()
        self.world.fault = Fault(4, lambda: PlugError("The switch is full."))
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
