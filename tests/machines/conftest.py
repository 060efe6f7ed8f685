# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a laboratory of machines, a cloud on one of them, and what others need to join it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cloud_of_machines import cloud_on
from lab import laboratory


def pytest_collection_modifyitems(items) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.machines)


@pytest.fixture(scope="session")
def lab():
    assert os.geteuid() == 0, "these tests need root"
    missing = [name for name in ("debootstrap", "runc", "iptables", "ip") if shutil.which(name) is None]
    assert not missing, f"these tests need {', '.join(missing)}: apt-get install debootstrap runc iptables iproute2"
    with laboratory() as found:
        yield found


@pytest.fixture(scope="session")
def cloud(lab):
    return cloud_on(lab)


@pytest.fixture(scope="session")
def nodes(lab, cloud):
    """Two machines that can be logged in to, and nothing more; dockstack has never been on them."""
    made = (lab.machine("twelve", "debian-12"), lab.machine("thirteen", "debian-13"))
    lab.give_key(cloud.controller, made)
    cloud.describe(made)
    return made
