# SPDX-License-Identifier: Apache-2.0
"""The inventory is a pure function of what there is, what is reserved and the ratios."""

from __future__ import annotations

import pytest

from dockstack.compute.resources.inventory import Capacity, Reserved, build_inventory

RATIOS = {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
pytestmark = pytest.mark.unit


def test_every_resource_in_full():
    assert build_inventory(Capacity(2, 8000, 50), Reserved(0, 512, 5), RATIOS) == {
        "VCPU": {"total": 2, "reserved": 0, "min_unit": 1, "max_unit": 2, "step_size": 1, "allocation_ratio": 4.0},
        "MEMORY_MB": {
            "total": 8000,
            "reserved": 512,
            "min_unit": 1,
            "max_unit": 8000,
            "step_size": 1,
            "allocation_ratio": 1.0,
        },
        "DISK_GB": {"total": 50, "reserved": 5, "min_unit": 1, "max_unit": 50, "step_size": 1, "allocation_ratio": 1.0},
    }


def test_placement_is_spared_what_it_refuses():
    found = build_inventory(Capacity(2, 100, 0), Reserved(0, 512, 5), RATIOS)
    assert "DISK_GB" not in found
    assert found["MEMORY_MB"]["reserved"] == 100
