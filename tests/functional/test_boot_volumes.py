# SPDX-License-Identifier: Apache-2.0
"""Servers that boot from a volume, through Nova's API, on a host in memory and with Nova's own Cinder of its tests."""

from __future__ import annotations

import pytest
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova_case import CHECKSUM, IMAGE, NOTHING, ServersCase

pytestmark = pytest.mark.functional

FOREIGN = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000f0"
ROOT = nova_fixtures.CinderFixture.IMAGE_BACKED_VOL
DATA = nova_fixtures.CinderFixture.SWAP_OLD_VOL


class TestBootVolumes(ServersCase):
    def setUp(self):
        super().setUp()
        self.cinder = self.useFixture(nova_fixtures.CinderFixture(self))
        self.made_of = {"image_id": IMAGE, "container_format": "docker"}
        self.multiattach = False
        show = self.cinder.fake_get

        def get(context, volume_id, microversion=None):
            """Show a volume as one is that was made of this image."""
            found = show(context, volume_id, microversion)
            if volume_id == ROOT:
                found |= {"volume_image_metadata": dict(self.made_of), "multiattach": self.multiattach}
            return found

        self.stub_out("nova.volume.cinder.API.get", lambda _self, *arguments, **more: get(*arguments, **more))

    def boot_from(self, *further, expected="ACTIVE", **root):
        mapping = [
            {"uuid": ROOT, "source_type": "volume", "destination_type": "volume", "boot_index": 0, **root},
            *further,
        ]
        return self.boot(image="", expected=expected, block_device_mapping_v2=mapping)

    def test_its_life(self):
        data = {"uuid": DATA, "source_type": "volume", "destination_type": "volume", "boot_index": -1}
        server = self.boot_from(data)
        assert self.world.roots == {server["id"]: ROOT}
        assert self.world.prepared[ROOT][1] == CHECKSUM
        assert {volume: device for (_, volume), device in self.world.shown.items()} == {DATA: "vdb"}
        assert self.container(server).labels["org.openstack.nova.root"] == ROOT
        for kind in ("SOFT", "HARD"):
            self._reboot_server(server, hard=kind == "HARD")
            assert self.world.roots == {server["id"]: ROOT}
        self._stop_server(server)
        assert self.world.roots == {}
        self._start_server(server)
        assert self.world.roots == {server["id"]: ROOT}
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_a_name_of_the_root_that_a_request_asks_for(self):
        server = self.boot_from(device_name="/dev/sda")
        self._reboot_server(server, hard=True)
        assert self.world.roots == {server["id"]: ROOT}

    def test_shelved_and_resized_and_rebuilt(self):
        self.flags(allow_resize_to_same_host=True)
        server = self.boot_from()
        self._shelve_server(server)
        assert self.world.held == {}
        self._unshelve_server(server)
        assert self.world.roots == {server["id"]: ROOT}
        larger = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0)
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": larger}})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        assert self.world.roots == {server["id"]: ROOT}
        self._confirm_resize(server)
        self.stub_out("nova.volume.cinder.API.reimage_volume", lambda *_, **__: self.tell_reimaged(server))
        self.api.post_server_action(server["id"], {"rebuild": {"imageRef": IMAGE, "name": "anew"}})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.world.roots == {server["id"]: ROOT}
        assert self.reimaged, "Cinder put the image on it anew, while nobody had it"

    def tell_reimaged(self, server):
        """Do what Cinder does when it has put an image on a volume."""
        self.reimaged = not self.world.held
        instance = self.instance(server)
        about = {"name": "volume-reimaged", "tag": ROOT, "status": "completed"}
        event = objects.InstanceExternalEvent(instance_uuid=instance.uuid, **about)
        self.compute.manager.external_instance_event(nova_context.get_admin_context(), [instance], [event])

    def test_nova_compute_restarts_and_the_machine(self):
        self.flags(resume_guests_state_on_host_boot=True)
        server = self.boot_from()
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        assert self.world.roots == {server["id"]: ROOT}
        self.world.reboot_machine()
        for found in (self.world.held, self.world.connected, self.world.roots):
            found.clear()
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        self._wait_for_state_change(server, "ACTIVE")
        assert self.world.roots == {server["id"]: ROOT}

    def test_what_cannot_be_booted_says_why(self):
        for made_of, multiattach, reason in (
            ({}, False, "was made of no image"),
            (self.made_of, True, "may be attached to several servers"),
        ):
            self.made_of, self.multiattach = made_of, multiattach
            server = self.boot_from(expected="ERROR")
            assert reason in server["fault"]["message"]
            self._delete_server(server)
            assert self.world.leftovers() == NOTHING

    def name_foreign_image(self):
        """Say of the volume, as its owner may, that it was made of an image that only another project may see."""
        self.images.add(FOREIGN, self.images.data[IMAGE], {"docker_env_SECRET": "theirs"}, owner="another project")
        self.made_of["image_id"] = FOREIGN

    def test_an_administrator_reads_no_image_for_a_server_that_its_project_may_not_see(self):
        server = self.boot_from()
        self._shelve_server(server)
        self.name_foreign_image()
        self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None})
        assert self.world.roots == {}
        assert f"nova-{server['id']}" not in self.world.containers
        failed = self.instance(server).fault.message
        assert f"image {FOREIGN} of its root volume is gone, or hidden from its project" in failed
        assert failed.endswith("(openstack volume set --image-property image_id=ID VOLUME).")
        self.made_of["image_id"] = IMAGE
        self._unshelve_server(server)
        assert self.world.roots == {server["id"]: ROOT}

    def test_a_server_moves_whatever_its_volume_says_that_it_was_made_of(self):
        self.flags(allow_resize_to_same_host=True)
        server = self.boot_from()
        larger = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0)
        self.made_of.clear()
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": larger}})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        assert self.world.roots == {server["id"]: ROOT}

    def test_no_rescue(self):
        server = self.boot_from()
        with pytest.raises(Exception, match="volume-backed"):
            self.api.post_server_action(server["id"], {"rescue": {"adminPass": "x"}})
