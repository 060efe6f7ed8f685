# SPDX-License-Identifier: Apache-2.0
"""Images fetched ahead and aged out, as Nova's compute manager asks for it."""

from __future__ import annotations

from dataclasses import replace

import fixtures
import pytest
from nova import context as nova_context
from nova_case import IMAGE, ServersCase

pytestmark = pytest.mark.functional


class TestImageCache(ServersCase):
    def setUp(self):
        super().setUp()
        self.flags(instances_path=self.useFixture(fixtures.TempDir()).path)
        self.admin = nova_context.get_admin_context()

    def pass_over(self):
        self.compute.manager._run_image_cache_manager_pass(self.admin)

    def age(self):
        for image in list(self.world.images.values()):
            self.world.images[image.id] = replace(image, tagged_at="2020-01-01T00:00:00Z")

    def test_an_image_is_fetched_ahead(self):
        assert self.compute.manager.cache_images(self.admin, [IMAGE]) == {IMAGE: "cached"}
        assert self.compute.manager.cache_images(self.admin, [IMAGE]) == {IMAGE: "existing"}
        self.boot()
        assert self.world.calls.count("load_image") == 1

    def test_a_broken_image_is_reported_and_leaves_nothing(self):
        broken = "5e1f7ad6-2a5c-4d3e-9f6e-000000000003"
        self.images.add(broken, b"no tar at all")
        assert self.compute.manager.cache_images(self.admin, [broken, IMAGE]) == {broken: "error", IMAGE: "cached"}
        assert len(self.world.images) == 1

    def test_an_unused_image_ages_out(self):
        server = self.boot()
        self.age()
        self.pass_over()
        assert len(self.world.images) == 1, "a server uses it"
        self._delete_server(server)
        self.pass_over()
        assert len(self.world.images) == 1, "a moment ago a server used it"
        self.age()
        self.pass_over()
        assert self.world.images == {}
