# SPDX-License-Identifier: Apache-2.0
"""Rebuild through Nova's real API and compute manager."""

from __future__ import annotations

import pytest
from nova import utils
from nova_case import IMAGE, ServersCase

from dockstack.compute.model import PowerState
from fake_host import image_archive

pytestmark = pytest.mark.functional

OTHER = "5e1f7ad6-2a5c-4d3e-9f6e-000000000002"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOauPnDr2yY++pP+SOBkTKCPMuP/Bk1ngS+H8fAGC2IV test"
BROKEN = "5e1f7ad6-2a5c-4d3e-9f6e-000000000003"


class TestRebuild(ServersCase):
    def setUp(self):
        super().setUp()
        self.images.add(OTHER, image_archive(Cmd=["/bin/other"]))
        self.images.add(BROKEN, b"no tar at all")

    def network_calls(self):
        wanted = ("delete_namespace", "delete_device", "unplug", "unplug_device")
        return [call for call in self.world.calls if call in wanted]

    def test_a_new_image_a_new_name_and_the_same_ports(self):
        server = self.boot()
        before, links, switch = self.container(server), dict(self.world.links), dict(self.world.switch)
        self.world.calls.clear()

        body = {"rebuild": {"imageRef": OTHER, "name": "renamed", "metadata": {"docker_env_SIZE": "large"}}}
        self.api.post_server_action(server["id"], body)
        self.notifier.wait_for_versioned_notifications("instance.rebuild.end")
        server = self._wait_for_state_change(server, "ACTIVE")

        after = self.container(server)
        assert after.id != before.id
        assert after.state is PowerState.RUNNING
        assert after.labels["org.openstack.nova.name"] == "renamed"
        assert after.labels["org.openstack.nova.image"] == OTHER
        spec = self.world.specs[after.name]
        assert spec.command == ("/bin/other",)
        assert "SIZE=large" in spec.environment
        assert (self.world.links, self.world.switch) == (links, switch)
        assert self.network_calls() == [], "the ports were never away"
        assert "stop 60" in self.world.calls, "Nova's shutdown_timeout"

    def test_a_new_key_and_new_user_data(self):
        server = self.boot()
        self.api.post_keypair({"keypair": {"name": "new", "type": "ssh", "public_key": KEY}})
        with utils.temporary_mutation(self.api, microversion="2.90"):
            body = {"rebuild": {"imageRef": IMAGE, "key_name": "new", "user_data": "bmV3", "hostname": "renamed"}}
            self.api.post_server_action(server["id"], body)
        self.notifier.wait_for_versioned_notifications("instance.rebuild.end")
        self._wait_for_state_change(server, "ACTIVE")

        instance = self.instance(server)
        assert (instance.key_name, instance.user_data) == ("new", "bmV3")
        assert self.world.specs[self.container(server).name].hostname == "renamed"

    def test_a_stopped_server_is_stopped_again(self):
        server = self.boot()
        self._stop_server(server)
        self._rebuild_server(server, OTHER, expected_state="SHUTOFF")
        assert self.container(server).state is PowerState.SHUTDOWN

    def test_an_image_that_cannot_boot_leaves_the_server_as_it_was(self):
        server = self.boot()
        before = self.container(server)

        self.api.post_server_action(server["id"], {"rebuild": {"imageRef": BROKEN}})
        server = self._wait_for_state_change(server, "ERROR")
        assert "no tar archive" in server["fault"]["message"]
        assert self.container(server) == before, "it runs on"

        self._rebuild_server(server, OTHER)
        assert self.container(server).id != before.id

    def test_a_server_that_lost_its_container_comes_back(self):
        server = self.boot()
        self.world.containers.clear()
        self._rebuild_server(server, OTHER)
        assert self.container(server).state is PowerState.RUNNING

    def test_ephemeral_disks_cannot_be_kept(self):
        server = self.boot()
        before = self.container(server)
        self.api.post_server_action(server["id"], {"rebuild": {"imageRef": OTHER, "preserve_ephemeral": True}})
        self._wait_for_state_change(server, "ERROR")
        assert self.container(server) == before, "it runs on"
