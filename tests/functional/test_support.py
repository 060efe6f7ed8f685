# SPDX-License-Identifier: Apache-2.0
"""The support matrix and the driver cannot disagree."""

from __future__ import annotations

import inspect

import pytest
from nova.virt import driver

from dockstack.compute.driver import DockerDriver
from dockstack.compute.support import load

pytestmark = pytest.mark.functional

FEATURES = load()
BASE = driver.ComputeDriver
# What Nova calls of every driver, or in the course of a feature that has a row.
AUXILIARY = {
    "block_stats",
    "cleanup",
    "default_root_device_name",
    "default_device_names_for_instance",
    "get_all_volume_usage",
    "get_available_nodes",
    "get_available_resource",
    "get_device_name_for_instance",
    "get_host_cpu_stats",
    "get_instance_disk_info",
    "host_power_action",
    "init_host",
    "inject_network_info",
    "list_instance_uuids",
    "list_instances",
    "plug_vifs",
    "poll_rebooting_instances",
    "resume_state_on_host_boot",
    "set_host_enabled",
    "unplug_vifs",
    "update_provider_tree",
}


def is_own(method: str) -> bool:
    return getattr(DockerDriver, method) is not getattr(BASE, method)


def is_left_out(method: str) -> bool:
    """Whether Nova's base class only refuses."""
    return "raise NotImplementedError" in inspect.getsource(getattr(BASE, method))


@pytest.mark.parametrize("row", FEATURES, ids=lambda row: row.key)
def test_row_agrees_with_the_driver(row):
    methods = {method: is_own(method) for method in row.methods}
    assert methods == dict.fromkeys(row.methods, row.supported), f"edit the row {row.key} in support.toml"
    capabilities = {name: DockerDriver.capabilities.get(name, False) for name in row.capabilities}
    assert capabilities == dict.fromkeys(row.capabilities, row.supported), f"edit the row {row.key} in support.toml"


def test_every_capability_of_the_driver_has_a_row():
    named = {name for row in FEATURES for name in row.capabilities}
    claimed = {name for name, value in DockerDriver.capabilities.items() if value}
    assert claimed <= named


def test_every_method_that_only_some_drivers_have_has_a_row():
    named = {method for row in FEATURES for method in row.methods}
    methods = {name for name, _ in inspect.getmembers(BASE, inspect.isfunction) if not name.startswith("_")}
    own = {name for name in methods if is_own(name) and is_left_out(name)}
    assert sorted(own - named - AUXILIARY) == []
