# SPDX-License-Identifier: Apache-2.0
"""What an upgrade of the packages repeats, on a cloud that is there."""

from __future__ import annotations

import subprocess

import pytest

from dockstack.deploy.recipes.controller import DIRECTORY, PYTHON
from dockstack.deploy.recipes.nova import CONF, DATABASE_CONF

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]


def test_a_second_migration_of_novas_databases_maps_no_cell_twice(connection):
    script = [PYTHON, f"{DIRECTORY}/nova_database.py", "--config-file", CONF, "--config-file", DATABASE_CONF]
    subprocess.run(["runuser", "-u", "nova", "--", *script], check=True, capture_output=True, cwd="/")
    listing = ["/opt/dockstack/openstack/bin/nova-manage", "--config-file", CONF, "--config-file", DATABASE_CONF]
    listing += ["cell_v2", "list_cells"]
    cells = subprocess.run(
        ["runuser", "-u", "nova", "--", *listing], check=True, capture_output=True, text=True, cwd="/"
    )
    assert cells.stdout.count(" cell1 ") == 1, cells.stdout
    services = [service.id for service in connection.compute.services()]
    assert len(services) == len(set(services)), "a cell that is mapped twice is listed twice"
