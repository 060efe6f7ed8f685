# SPDX-License-Identifier: Apache-2.0
"""Run Nova's code on native threads, as its services run, and not patched for eventlet, as its tests would have it."""

from __future__ import annotations

import os
import uuid

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"
os.environ.setdefault("OS_TEST_TIMEOUT", "600")

import pytest
from nova import monkey_patch
from nova_release import RELEASE
from registry_user import MAX_UPLOADS, User

from dockstack.deploy.configuration.glance import UNFILTERED
from dockstack.registry.configuration import Configuration
from dockstack.registry.service import Service
from registry_cloud import RegistryCloud

monkey_patch.patch()


@pytest.fixture(scope="session")
def filtering_glance():
    """A Glance beside which a cloud may have a registry; there is none of the releases that filter no locations."""
    if RELEASE in UNFILTERED:
        pytest.skip(f"a cloud of {RELEASE} has no registry: its Glance reads whatever address a project names")


@pytest.fixture(scope="session")
def cloud(tmp_path_factory, filtering_glance):
    """A registry beside a Glance."""
    made = RegistryCloud(tmp_path_factory.mktemp("registry"), max_uploads=MAX_UPLOADS)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def name():
    """A repository that no other test uses."""
    return f"demo/r{uuid.uuid4().hex[:12]}"


@pytest.fixture
def service(cloud):
    """The same registry, in this process."""
    return Service(Configuration.read(str(cloud.directory / "registry.conf")))


@pytest.fixture
def alice(cloud):
    """A member of the project demo."""
    return User(cloud, cloud.alice)


@pytest.fixture
def bob(cloud):
    """A member of another project."""
    return User(cloud, cloud.bob)


@pytest.fixture
def nobody(cloud):
    """Somebody who did not log in."""
    return User(cloud, None)
