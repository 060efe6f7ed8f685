# SPDX-License-Identifier: Apache-2.0
"""What a server sees of its devices, as files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.compute.model import Device, Volume
from dockstack.compute.volumes import views

pytestmark = pytest.mark.unit

DEVICE = Device(Volume("a07f71dc-8151-4e7d-a0cc-cd24a3f11113", "vdb"), 7, 1, 8 << 20)
SECOND = Device(Volume("227cc671-f30b-4488-96fd-7d0bf13648d8", "vdc", read_only=True), 7, 4, 1 << 30)


@pytest.fixture
def view(tmp_path):
    directory = tmp_path / "view"
    views.renew(directory, [DEVICE, SECOND])
    return directory


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_in_the_shape_of_the_kernels(view) -> None:
    assert names(view / "block") == names(view / "class") == names(view / "devices") == ["vdb", "vdc"]
    assert names(view / "numbers") == ["7:1", "7:4"]
    for place, link in (("block", "vdb"), ("class", "vdb"), ("numbers", "7:1")):
        inside = views.PLACES[place].split("/")[1:]  # what ".." in the link climbs out of
        target = str((view / place / link).readlink())
        assert target.count("..") == len(inside) - 1
        assert f"/sys/{target.replace('../', '')}" == f"{views.PLACES['devices']}/vdb"
    assert (view / "devices/vdb/serial").read_text() == "a07f71dc-8151-4e7d-a", "no newline, as of virtio"
    assert (view / "devices/vdb/size").read_text() == "16384\n"
    assert (view / "devices/vdc/ro").read_text() == "1\n"
    assert (view / "partitions").read_text().splitlines()[2:] == [
        "   7        1       8192 vdb",
        "   7        4    1048576 vdc",
    ]


def test_changed_in_place_as_it_may_be_mounted(view) -> None:
    mounted = {path: path.stat().st_ino for path in (view, *view.iterdir())}
    views.add(view, replace(DEVICE, minor=9, size=16 << 20))
    views.remove(view, "vdc")
    views.remove(view, "vdc")  # again
    assert names(view / "numbers") == ["7:9"]
    assert views.find_number(view, "vdb") == "7:9"
    assert views.find_number(view, "vdc") == ""
    assert (view / "partitions").read_text().splitlines()[2:] == ["   7        9      16384 vdb"]
    assert {path: path.stat().st_ino for path in (view, *view.iterdir())} == mounted


def test_without_devices_nothing_is_told(view) -> None:
    views.renew(view, [])
    assert (view / "partitions").read_text() == ""
    assert names(view / "block") == []
    views.drop(view)
    views.drop(view)
    assert views.list_sources(view) == []
