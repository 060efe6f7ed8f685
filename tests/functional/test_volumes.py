# SPDX-License-Identifier: Apache-2.0
"""Volumes through Nova's API, on a host in memory and with Nova's own Cinder of its tests."""

from __future__ import annotations

from unittest import mock

import pytest
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova_case import IMAGE, NOTHING, ServersCase, wait_until
from oslo_messaging import MessagingTimeout
from oslo_serialization import jsonutils

pytestmark = pytest.mark.functional

MULTIATTACH = nova_fixtures.CinderFixture.MULTIATTACH_VOL
VOLUME = nova_fixtures.CinderFixture.SWAP_OLD_VOL
OTHER = nova_fixtures.CinderFixture.SWAP_NEW_VOL


class TestVolumes(ServersCase):
    def setUp(self):
        super().setUp()
        self.cinder = self.useFixture(nova_fixtures.CinderFixture(self))

    def attach(self, server, volume=VOLUME, **more):
        self.api.post_server_volume(server["id"], {"volumeAttachment": {"volumeId": volume} | more})
        wait_until(lambda: self.recorded(server, volume))
        self.rest()

    def recorded(self, server, volume=VOLUME):
        """What Nova has written down of an attachment, which it does when the driver is done."""
        found = objects.BlockDeviceMappingList.get_by_instance_uuid(nova_context.get_admin_context(), server["id"])
        return next(
            (jsonutils.loads(bdm.connection_info) for bdm in found if bdm.volume_id == volume and bdm.connection_info),
            None,
        )

    def detach(self, server, volume=VOLUME):
        self.api.delete_server_volume(server["id"], volume)
        self._wait_for_volume_detach(server["id"], volume)

    def shown(self, server):
        return {volume: device for (own, volume), device in self.world.shown.items() if own == server["id"]}

    def held(self, server):
        return {volume for own, volume in self.world.held if own == server["id"]}

    def test_attached_and_detached_while_it_runs(self):
        server = self.boot()
        self.attach(server, device="/dev/sdq", tag="database")
        assert self.shown(server) == {VOLUME: "vdb"}, "a name that is asked for is no promise"
        (device,) = [found for found in self.instance(server).device_metadata.devices if "serial" in found]
        assert (device.serial, device.path, device.tags) == (VOLUME, "/dev/vdb", ["database"])
        self.attach(server, OTHER)
        assert self.shown(server) == {VOLUME: "vdb", OTHER: "vdc"}
        self.detach(server)
        assert self.shown(server) == {OTHER: "vdc"}
        assert self.world.connected == {OTHER}
        self.attach(server)
        assert self.shown(server) == {VOLUME: "vdb", OTHER: "vdc"}
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def test_there_again_after_reboots_and_stops(self):
        server = self.boot()
        self.attach(server)
        for kind in ("SOFT", "HARD"):
            self._reboot_server(server, hard=kind == "HARD")
            assert self.shown(server) == {VOLUME: "vdb"}
        self._stop_server(server)
        assert self.shown(server) == {}
        assert self.held(server) == {VOLUME}
        self.attach(server, OTHER)
        self._start_server(server)
        assert self.shown(server) == {VOLUME: "vdb", OTHER: "vdc"}
        self._stop_server(server)
        self.detach(server)
        self._start_server(server)
        assert self.shown(server) == {OTHER: "vdc"}

    def test_a_server_without_any_starts_while_nobody_can_be_asked(self):
        self.flags(allow_resize_to_same_host=True)
        server = self.boot()
        asked = mock.Mock(side_effect=MessagingTimeout)
        object.__setattr__(self.driver()._host, "attachments", asked)
        for kind in ("SOFT", "HARD"):
            self._reboot_server(server, hard=kind == "HARD")
        self._suspend_server(server)
        self.world.reboot_machine()
        self._resume_server(server)
        self._stop_server(server)
        self._start_server(server)
        larger = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0)
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": larger}})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        self.api.post_server_action(server["id"], {"revertResize": None})
        self._wait_for_state_change(server, "ACTIVE")
        self.api.post_server_action(server["id"], {"rescue": {"adminPass": "x"}})
        self._wait_for_state_change(server, "RESCUE")
        self._delete_server(server)
        assert not asked.called

    def test_from_the_start(self):
        mapping = [
            {"uuid": IMAGE, "source_type": "image", "destination_type": "local"},
            {"uuid": VOLUME, "source_type": "volume", "destination_type": "volume"},
        ]
        mapping = [
            each | {"boot_index": index and -1, "delete_on_termination": True} for index, each in enumerate(mapping)
        ]
        server = self.boot(block_device_mapping_v2=mapping)
        assert self.shown(server) == {VOLUME: "vdb"}
        self._delete_server(server)
        assert self.world.leftovers() == NOTHING

    def fault_of(self, server):
        fault = objects.InstanceFault.get_latest_for_instance(nova_context.get_admin_context(), server["id"])
        return fault.message if fault else ""

    def test_ephemeral_disks_of_the_flavor_come_and_go_with_the_server(self):
        self.flags(allow_resize_to_same_host=True)
        self.flavor = self._create_flavor(vcpu=1, memory_mb=64, disk=1, ephemeral=2)
        server = self.boot()
        ((identity, name),) = self.shown(server).items()
        assert name == "vdb"
        (file,) = (self.world.directory / "ephemeral").glob("*/*")
        assert (file.parent.name, file.name, file.stat().st_size) == (server["id"], identity, 2 << 30)
        self.attach(server)
        assert self.shown(server) == {identity: "vdb", VOLUME: "vdc"}
        self._reboot_server(server, hard=True)
        assert self.shown(server) == {identity: "vdb", VOLUME: "vdc"}
        self.detach(server)
        other = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=2)
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": other}})
        wait_until(lambda: "ephemeral disks" in self.fault_of(server))
        self._wait_for_state_change(server, "ACTIVE")
        self.api.post_server_action(server["id"], {"rebuild": {"imageRef": IMAGE}})
        self._wait_for_state_change(server, "ACTIVE")
        (anew,) = (self.world.directory / "ephemeral").glob("*/*")
        assert anew.name == identity
        self._delete_server(server)
        assert not list((self.world.directory / "ephemeral").glob("*"))
        assert self.world.leftovers() == NOTHING

    def test_one_that_cannot_be_attached_leaves_nothing(self):
        server = self.boot()
        steps = ("volume.connect", "volume.hold", "volume.limit", "volume.present")
        for step in steps:
            self.world.fails_at = step
            self.api.post_server_volume(server["id"], {"volumeAttachment": {"volumeId": VOLUME}})
            wait_until(lambda: not self.world.fails_at)
            wait_until(lambda: not self.api.get_server_volumes(server["id"]))
            assert (self.world.held, self.world.shown, self.world.connected) == ({}, {}, set()), step

    def test_larger(self):
        server = self.boot()
        self.attach(server)
        self.world.sizes[VOLUME] = 3 << 30
        self.driver().extend_volume(None, self.recorded(server), self.instance(server), 3 << 30)
        view = self.world.directory / "views" / server["id"] / "devices/vdb/size"
        assert view.read_text().strip() == str((3 << 30) // 512)

    def test_shared_by_two_servers(self):
        server, other = self.boot(), self.boot(networks="none")
        self.attach(server, MULTIATTACH)
        self.attach(other, MULTIATTACH)
        assert self.shown(server) == self.shown(other) == {MULTIATTACH: "vdb"}
        self._delete_server(server)
        assert self.world.connected == {MULTIATTACH}
        assert self.shown(other) == {MULTIATTACH: "vdb"}
        self._delete_server(other)
        assert self.world.leftovers() == NOTHING

    def test_resized_where_it_is(self):
        self.flags(allow_resize_to_same_host=True)
        server = self.boot()
        self.attach(server)
        larger = self._create_flavor(vcpu=1, memory_mb=128, disk=1, ephemeral=0)
        self.api.post_server_action(server["id"], {"resize": {"flavorRef": larger}})
        self._wait_for_state_change(server, "VERIFY_RESIZE")
        assert self.shown(server) == {VOLUME: "vdb"}
        assert "stop 60" in self.world.calls, "Cinder takes the volume off the host meanwhile"
        self.api.post_server_action(server["id"], {"revertResize": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.shown(server) == {VOLUME: "vdb"}

    def test_rescued_and_rebuilt(self):
        server = self.boot()
        self.attach(server)
        self.api.post_server_action(server["id"], {"rescue": {"adminPass": "x"}})
        self._wait_for_state_change(server, "RESCUE")
        assert self.shown(server) == {VOLUME: "vdb"}
        self.api.post_server_action(server["id"], {"unrescue": None})
        self._wait_for_state_change(server, "ACTIVE")
        assert self.shown(server) == {VOLUME: "vdb"}
        self._rebuild_server(server, IMAGE)
        assert self.shown(server) == {VOLUME: "vdb"}

    def test_nova_compute_restarts(self):
        server = self.boot()
        self.attach(server)
        self.world.held[server["id"], OTHER] = {"device": "vdc"}  # of an attach that was broken off
        self.world.shown[server["id"], OTHER] = "vdc"
        self.world.connected.add(OTHER)
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        wait_until(lambda: self.shown(server) == {VOLUME: "vdb"})
        wait_until(lambda: self.world.connected == {VOLUME})

    def test_the_machine_was_rebooted(self):
        self.flags(resume_guests_state_on_host_boot=True)
        server = self.boot()
        self.attach(server)
        self.world.reboot_machine()
        for found in (self.world.held, self.world.shown, self.world.connected):
            found.clear()
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        wait_until(lambda: self.shown(server) == {VOLUME: "vdb"})

    def test_swapped(self):
        server = self.boot()
        self.attach(server)
        self.api.put_server_volume(server["id"], VOLUME, OTHER)
        wait_until(lambda: self.shown(server) == {OTHER: "vdb"})
        wait_until(lambda: self.world.connected == {OTHER})
