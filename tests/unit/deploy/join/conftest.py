# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import cloud_files
from dockstack.deploy.join import service_files
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument


@pytest.fixture
def cloud(tmp_path):
    """A cloud of Kolla-Ansible's, whose document has no problem."""
    sources = service_files.read(cloud_files.write(cloud_files.KOLLA, tmp_path)).sources
    document = CloudDocument([*sources, SourceValues("test", {"release": "2026.2"})])
    document.require_usable("")
    return document


@pytest.fixture
def compute():
    """A compute node that is reached over SSH, with these attributes."""

    def build(*assignments, name="one", **raw):
        further = {name: {"connector": "@ssh", "roles": ["compute"], **raw}}
        return inventory.load(None, assignments, further=further).nodes[0]

    return build
