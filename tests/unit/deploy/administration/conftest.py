# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.administration import api
from fake_cloud import administered


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A cloud with its APIs, which clouds.yaml calls dockstack."""
    with administered(tmp_path, monkeypatch) as cloud:
        yield cloud


@pytest.fixture
def cloud(fake):
    """Its administrator's connection."""
    return api.connect("dockstack")


@pytest.fixture
def told():
    return []
