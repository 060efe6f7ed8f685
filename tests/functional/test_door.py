# SPDX-License-Identifier: Apache-2.0
"""The door leads from the real Nova to the driver."""

from __future__ import annotations

import sys

import pytest

from dockstack.deploy import door

pytestmark = pytest.mark.functional


def test_nova_loads_the_driver_through_it():
    assert door.look(sys.executable).state.ours
    assert door.load(sys.executable) == ""
