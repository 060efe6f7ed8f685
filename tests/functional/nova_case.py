# SPDX-License-Identifier: Apache-2.0
"""What Nova's own test classes need so that pytest runs them and the driver finds a host in memory."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
from pathlib import Path
from unittest import mock

import fixtures
import nova.conf
import nova_33_fixtures
from glanceclient.exc import HTTPNotFound
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import glance as glance_fixtures
from nova.tests.fixtures import nova as nova_fixtures_module
from nova.tests.functional import integrated_helpers
from nova.tests.functional.api import client

from dockstack.compute import conf
from dockstack.compute.flows import rounds
from fake_host import World, image_archive

NOTHING = {"containers": [], "namespaces": [], "links": [], "switch": [], "patches": [], "spools": []}
IMAGE = "5e1f7ad6-2a5c-4d3e-9f6e-000000000001"
CHECKSUM = "ab" * 64


class InMemoryHost(fixtures.Fixture):
    """A host in memory behind the driver's doors."""

    def __init__(self) -> None:
        self.world: World

    def _setUp(self) -> None:  # noqa: N802 - the fixtures library calls it so
        self.world = World(Path(self.useFixture(fixtures.TempDir()).path))
        for owner, name, fake in self.world.doors():
            self.useFixture(fixtures.MonkeyPatch(f"{owner.__name__}.{name}", fake))
        # A server's first process is process 1 here, which is the machine's own: nobody knows what that one handles.
        handled = "dockstack.compute.containers.signals.is_handled"
        self.useFixture(fixtures.MonkeyPatch(handled, lambda _pid, _name: True))
        self._end_rounds_with_the_test()
        conf.register(nova.conf.CONF)
        for name, value in (
            ("state_directory", self.world.directory),
            ("patch_directory", self.world.patches),
            ("lxcfs_directory", ""),
        ):
            nova.conf.CONF.set_override(name, str(value), group="docker")
            self.addCleanup(nova.conf.CONF.clear_override, name, group="docker")

    def _end_rounds_with_the_test(self) -> None:
        """Nova's tests end no compute service: its rounds would look at the next test's servers, on this one's host.

        Nor does one come by itself, in a test that takes longer than a minute: it would be among the calls it counts.
        """
        start = rounds.Rounds.start

        def start_for_now(started: rounds.Rounds) -> None:
            started._interval = threading.TIMEOUT_MAX
            start(started)
            self.addCleanup(started.stop)

        self.useFixture(fixtures.MonkeyPatch("dockstack.compute.flows.rounds.Rounds.start", start_for_now))


class DockerImages(fixtures.Fixture):
    """Nova's fake Glance, with a docker image in it that can be downloaded."""

    def __init__(self, glance: glance_fixtures.GlanceFixture) -> None:
        self.glance = glance
        self.data = {IMAGE: image_archive()}
        self.refusal: Exception | None = None  # how the next upload ends
        self.loses = 0  # bytes of each upload
        self.members: set[tuple[str, str]] = set()  # image and project

    def _setUp(self) -> None:  # noqa: N802 - the fixtures library calls it so
        self.add(IMAGE, image_archive(), {"os_hash_value": CHECKSUM, "docker_env_COLOUR": "green"})
        self.useFixture(fixtures.MockPatchObject(self.glance, "download", self._download))
        self.fake_update = self.glance.update
        self.useFixture(fixtures.MockPatchObject(self.glance, "update", self._update))
        self.useFixture(fixtures.MonkeyPatch("nova.image.glance.GlanceClientWrapper.call", self._call))

    def add(
        self,
        image_id: str,
        data: bytes,
        properties: dict[str, str] | None = None,
        container_format: str = "docker",
        *,
        owner: str | None = None,
        visibility: str = "private",
    ) -> None:
        """Upload an image, for everybody unless it has an owner."""
        self.data[image_id] = data
        self.glance.create(
            None,
            {
                "id": image_id,
                "name": f"image {image_id[-2:]}",
                "status": "active",
                "size": len(data),
                "container_format": container_format,
                "disk_format": "raw",
                "min_ram": 0,
                "min_disk": 0,
                "visibility": visibility if owner else "public",
                "is_public": owner is None,  # which is all that Nova tells of the visibility
                "owner": owner,
                "created_at": self.glance.timestamp,
                "updated_at": self.glance.timestamp,
                "deleted_at": None,
                "deleted": False,
                "protected": False,
                "tags": [],
                "properties": properties or {},
            },
        )

    def _update(self, context, image_id, metadata, data=None, purge_props=False):
        """Take an upload as Glance's client does, in small pieces."""
        if data is not None:
            pieces = list(iter(lambda: data.read(1000), b""))
            assert {len(piece) for piece in pieces[:-1]} <= {1000}, "each piece costs Glance more than its bytes do"
            received = b"".join(pieces)
            if self.refusal is not None:
                raise self.refusal
            self.data[image_id] = received[: len(received) - self.loses]
            digest = hashlib.sha512(self.data[image_id]).hexdigest()
            metadata["properties"]["os_hash_value"] = digest
            metadata |= {"size": len(self.data[image_id]), "status": "active"}
        return self.fake_update(context, image_id, metadata, None, purge_props)

    def _call(self, _wrapper, _context, _version, method, controller="images", args=()):
        """Answer what Nova's records of images leave out, as Glance answers its client."""
        assert method == "get"
        if controller == "images":
            return self.glance.images[args[0]]
        if args not in self.members:
            raise HTTPNotFound
        return {"member_id": args[1], "status": "pending"}

    def _download(self, context, image_id, data=None, dst_path=None, trusted_certs=None):
        self.glance.show(context, image_id)
        if data is None:
            return iter([self.data[image_id]])
        data.write(self.data[image_id])
        return None


class PytestFriendly:
    """Pytest deletes attributes of test instances that testtools never set."""

    def __delattr__(self, name: str) -> None:
        self.__dict__.pop(name, None)


class Lenient(fixtures.Fixture):
    """Takes the place of the fixture with which Nova's tests turn its libraries' deprecations into failures.

    They hold for the library versions that Nova's own gate pins, not for those that a release runs with.
    """


nova_fixtures_module.WarningsFixture = nova_fixtures.WarningsFixture = Lenient
mock.FILTER_DIR = False  # a failing assertion on Nova's objects would load each of their fields to print them
if not hasattr(nova_fixtures_module, "DatabaseWriteLock"):
    nova_33_fixtures.serve_native_threads()

SECONDS = 120  # what a machine with other work may need for what takes one
RETRIES = 2 * SECONDS  # Nova's tests look twice a second, and give up after five


def wait_until(condition, seconds: float = SECONDS) -> None:
    """Poll what happens in other threads."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


class PatientCase(PytestFriendly, integrated_helpers.ProviderUsageBaseTestCase):
    """Waits for as long as a machine with other work may need, and until Nova is done with what it is asked for."""

    def setUp(self):
        super().setUp()
        hear = self.notifier.wait_for_versioned_notifications
        self.notifier.wait_for_versioned_notifications = functools.partial(hear, timeout=SECONDS)

    def _wait_for_server_parameter(self, server, expected_params, max_retries=RETRIES, **more):
        if expected_params.get("status") == "ERROR":  # which Nova writes first: then the fault, and the task at last
            expected_params = {"OS-EXT-STS:task_state": None, **expected_params}
        return super()._wait_for_server_parameter(server, expected_params, max_retries, **more)

    def _wait_for_state_change(self, server, expected_status, max_retries=RETRIES, **more):
        return super()._wait_for_state_change(server, expected_status, max_retries, **more)

    def _wait_for_instance_action_event(self, *arguments, **named):
        found = []

        def look():
            with contextlib.suppress(self.failureException):
                found.append(super(PatientCase, self)._wait_for_instance_action_event(*arguments, **named))
            return found

        wait_until(look)
        return found[0]

    def _wait_until_deleted(self, server):
        was_in_error = server.get("status") == "ERROR"

        def is_gone():
            try:
                found = self.api.get_server(server["id"])
            except client.OpenStackApiNotFoundException:
                return True
            assert was_in_error or found["status"] != "ERROR", found
            return False

        wait_until(is_gone)


class ServersCase(PatientCase):
    compute_driver = "docker.DockerDriver"

    def setUp(self):
        self.world = self.useFixture(InMemoryHost()).world
        super().setUp()
        self.images = self.useFixture(DockerImages(self.glance))
        # One node, as `dockstack up` configures it: no other host to try, so the cause itself is the fault.
        self.flags(max_attempts=1, group="scheduler")
        self.flags(skip_allocation_lookup=True, group="docker")  # as `dockstack up` has it
        self.flags(vif_plugging_timeout=0)  # Nova's fake Neutron sends no events
        self.compute = self._start_compute("host1")
        self.rest()
        self.flavor = self._create_flavor(vcpu=1, memory_mb=64, disk=1, ephemeral=0)

    def driver(self):
        return self.compute.manager.driver

    def boot(self, image=IMAGE, expected="ACTIVE", networks=None, **more):
        port = [{"port": self.neutron.port_1["id"]}]
        request = self._build_server(image_uuid=image, flavor_id=self.flavor, networks=networks or port)
        server = self.api.post_server({"server": request | more})
        server = self._wait_for_state_change(server, expected)
        self.rest()
        return server

    def rest(self):
        """Wait until the thread that follows the engine's events has nothing more to do: its calls are counted too."""
        follower = self.driver()._follower
        wait_until(lambda: follower._states is not None and self.world.all_told())

    def container(self, server):
        return self.world.containers[f"nova-{server['id']}"]

    def instance(self, server):
        return objects.Instance.get_by_uuid(nova_context.get_admin_context(read_deleted="yes"), server["id"])
