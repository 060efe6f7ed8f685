# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.configuration import migration
from dockstack.deploy.recipes import migration as recipe
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit

ANSWERS = {"hostname;": "node\nnetdev", "getent passwd": {"success": False}}


def test_a_lonely_host_lets_nobody_in_any_more(machine):
    one = machine(ANSWERS)
    one.records.define(Service(name=migration.SERVICE, command=("x",)))
    recipe.start(one)
    assert not one.records.services()
    assert any("usermod --shell /usr/sbin/nologin nova" in command for command in one.commands)


def test_a_host_that_was_always_alone_is_left_as_it_is(machine):
    one = machine(ANSWERS)
    recipe.start(one)
    assert not any("usermod" in command for command in one.commands)
