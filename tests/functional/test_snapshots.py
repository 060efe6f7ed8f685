# SPDX-License-Identifier: Apache-2.0
"""Images of servers through Nova's real API and compute manager: create image, back-up, shelve, rebuild."""

from __future__ import annotations

import json

import fixtures
import pytest
from nova import exception
from nova_case import NOTHING, ServersCase, wait_until

from dockstack.compute.engine import EngineError
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.model import PowerState
from fake_host import Fault, image_archive

pytestmark = pytest.mark.functional

LONG = json.dumps({f"NAME_{number}": "x" * 20 for number in range(30)})


class TestSnapshots(ServersCase):
    def setUp(self):
        super().setUp()
        self.images.add("5e1f7ad6-2a5c-4d3e-9f6e-000000000002", image_archive(), {"docker_env": LONG})

    def create_image(self, server, name="copy"):
        answer = self.api.post_server_action(server["id"], {"createImage": {"name": name}})
        self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None})
        return answer["image_id"]

    def test_a_server_from_an_image_of_a_server(self):
        server = self.boot(metadata={"docker_env_SIZE": "large"})

        image = self.glance.show(None, self.create_image(server))
        assert image["container_format"] == "docker"
        assert image["disk_format"] == "raw"
        assert image["status"] == "active"
        assert image["min_disk"] == 1
        assert image["properties"]["image_type"] == "snapshot"
        assert image["properties"]["docker_env_COLOUR"] == "green"
        assert image["properties"]["img_hv_type"] == "docker"
        assert image["properties"]["hw_architecture"] == "x86_64"
        assert self.container(server).state is PowerState.RUNNING

        second = self.boot(image=image["id"], networks="none")
        spec = self.world.specs[self.container(second).name]
        assert "SIZE=large" in spec.environment
        assert "COLOUR=green" in spec.environment
        assert spec.command == ("/bin/true",)

    def test_an_image_of_a_stopped_and_of_a_paused_server(self):
        server = self.boot()
        self._stop_server(server)
        self.create_image(server)
        assert self.container(server).state is PowerState.SHUTDOWN
        self._start_server(server)

        self.api.post_server_action(server["id"], {"pause": None})
        self._wait_for_state_change(server, "PAUSED")
        self.world.calls.clear()
        self.create_image(server)
        assert self.container(server).state is PowerState.PAUSED
        assert "unpause" not in self.world.calls

    def test_a_long_property_is_not_cut_off(self):
        server = self.boot(image="5e1f7ad6-2a5c-4d3e-9f6e-000000000002")

        image_id = self.create_image(server)
        said = json.loads(self.glance.show(None, image_id)["properties"]["docker_env"])
        assert said.items() >= json.loads(LONG).items()
        self.boot(image=image_id, networks="none")

    def check_failed_snapshot(self, server):
        before = set(self.glance.images)
        with self.assertLogs("dockstack.compute.nova_api.faults", "WARNING") as told:
            self.api.post_server_action(server["id"], {"createImage": {"name": "copy"}})
            self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None, "status": "ACTIVE"})
            wait_until(lambda: set(self.glance.images) == before)
        assert self.container(server).state is PowerState.RUNNING
        assert self.world.copies() == []
        assert len(self.world.containers) == 1
        assert "No image is made of the server: " in told.records[0].getMessage()
        assert told.records[0].instance_uuid == server["id"]

    def test_a_failing_engine_leaves_no_image(self):
        server = self.boot()
        self.world.fault = Fault("copy.complete", lambda: EngineError("failed on purpose"))

        self.check_failed_snapshot(server)
        actions = self.api.get_instance_actions(server["id"])
        assert actions[0]["action"] == "createImage"

    def test_a_glance_that_is_down_leaves_no_image(self):
        server = self.boot()
        self.images.refusal = exception.GlanceConnectionFailed(server="glance", reason="down")

        self.check_failed_snapshot(server)

    def test_an_image_that_is_deleted_meanwhile(self):
        server = self.boot()
        self.images.refusal = exception.ImageNotFound(image_id="gone")

        self.api.post_server_action(server["id"], {"createImage": {"name": "copy"}})
        self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None, "status": "ACTIVE"})
        assert self.container(server).state is PowerState.RUNNING
        assert self.world.copies() == []

    def test_glance_that_keeps_less_than_was_sent(self):
        server = self.boot()
        self.images.loses = 10

        self.check_failed_snapshot(server)

    def test_a_backup(self):
        """Its rotation is tried on a real cloud: Nova's fake Glance filters no listing."""
        server = self.boot()
        body = {"createBackup": {"name": "backup", "backup_type": "daily", "rotation": 100}}
        self.api.post_server_action(server["id"], body)
        self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None})

        [backup] = [image for image in self.glance.images.values() if image["name"] == "backup"]
        assert backup["properties"]["image_type"] == "backup"
        assert backup["container_format"] == "docker"


class TestShelve(ServersCase):
    def test_shelve_and_unshelve(self):
        server = self.boot(metadata={"docker_env_SIZE": "large"})

        self._shelve_server(server)
        assert "stop 60" in self.world.calls, "Nova's shutdown_timeout"
        assert "pause" not in self.world.calls
        assert self.world.leftovers() == NOTHING
        [shelved] = [i for i in self.glance.images.values() if i["name"].endswith("-shelved")]

        self._unshelve_server(server)
        assert self.container(server).state is PowerState.RUNNING
        assert shelved["id"] not in self.glance.images
        assert "SIZE=large" in self.world.specs[self.container(server).name].environment

    def test_shelved_servers_stay_until_they_are_offloaded(self):
        self.flags(shelved_offload_time=-1)
        server = self.boot()
        identity = self.container(server).id

        self._shelve_server(server, expected_state="SHELVED")
        assert self.container(server).state is PowerState.SHUTDOWN
        self._unshelve_server(server)
        assert self.container(server).id == identity
        self._shelve_server(server, expected_state="SHELVED")
        self._shelve_offload_server(server)
        assert self.world.leftovers() == NOTHING

    def test_a_server_that_outgrew_its_flavor_comes_back(self):
        """Its image has its base beside what it has written, so it may be larger than the disk it was promised."""
        limits = []
        ensure = ImageStore.ensure

        def spy(store, image, max_bytes):
            limits.append(max_bytes)
            return ensure(store, image, max_bytes)

        self.useFixture(fixtures.MockPatchObject(ImageStore, "ensure", spy))
        server = self.boot()
        self._shelve_server(server)
        self._unshelve_server(server)
        assert limits == [1 << 30, 0]
