# SPDX-License-Identifier: Apache-2.0
"""Nova's own contract for virt drivers: every test of _VirtDriverTestCase."""

from __future__ import annotations

import functools
import logging
from unittest import mock

import pytest
from nova import exception, objects, test
from nova.tests.unit import utils
from nova.tests.unit.virt import test_virt_drivers
from nova_case import IMAGE, DockerImages, InMemoryHost, PytestFriendly

pytestmark = pytest.mark.functional

# What this driver does not do; Nova's tests pass over a NotImplementedError in silence, so it is said here.
NOT_IMPLEMENTED = {
    "get_instance_disk_info",
    "get_mks_console",
    "get_spice_console",
    "get_vnc_console",
    "host_power_action",
    "live_migration",
    "live_migration_abort",
    "live_migration_force_complete",
    "set_host_enabled",
    "snapshot",
}


class Missing(logging.Handler):
    """Collects what Nova's tests log about methods that are not implemented."""

    def __init__(self) -> None:
        super().__init__()
        self.methods: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, dict) and "method" in record.args:
            self.methods.add(record.args["method"])


class TestContract(PytestFriendly, test_virt_drivers._VirtDriverTestCase, test.TestCase):
    def setUp(self):
        self.driver_module = "nova.virt.docker.DockerDriver"
        self.world = self.useFixture(InMemoryHost()).world
        super().setUp()
        images = self.useFixture(DockerImages(self.image_service))
        # The image that Nova's test instances boot from is a docker image here.
        test_image = "cedef40a-ed67-4d10-800e-17455edce175"
        del self.image_service.images[test_image]
        images.add(test_image, images.data[IMAGE])
        self.connection.init_host("myhostname")
        self.missing = Missing()
        test_virt_drivers.LOG.logger.addHandler(self.missing)
        self.addCleanup(test_virt_drivers.LOG.logger.removeHandler, self.missing)
        self.addCleanup(lambda: self.connection.cleanup_host("myhostname"))
        self.addCleanup(self.assert_only_the_known_is_missing)

    def _get_running_instance(self, obj=True):
        # Nova has written the ports into its record before it spawns; this test of Nova gives them to spawn alone.
        instance, network_info = super()._get_running_instance(obj)
        instance.info_cache = objects.InstanceInfoCache.new(self.ctxt, instance.uuid)
        instance.info_cache.network_info = network_info
        instance.info_cache.save()
        return instance, network_info

    def assert_only_the_known_is_missing(self):
        assert self.missing.methods <= NOT_IMPLEMENTED

    def test_migrate_disk_and_power_off(self):
        # Nova's test flavor has an ephemeral disk; a refusal must leave the server as it was.
        with pytest.raises(exception.InstanceFaultRollback):
            super().test_migrate_disk_and_power_off()

    def test_snapshot_not_running(self):
        # Nova's manager gives a driver an Instance; this test of Nova's gives a row of its database.
        with mock.patch.object(utils, "get_test_instance", functools.partial(utils.get_test_instance, obj=True)):
            super().test_snapshot_not_running()

    def test_live_migration(self):
        # The only test that Nova does not let a driver pass over; the base class's driver skips it.
        with pytest.raises(NotImplementedError):
            super().test_live_migration()

    def test_live_migration_force_complete(self):
        self.connection.active_migrations = {}  # the test writes into libvirt's own bookkeeping
        super().test_live_migration_force_complete()
