# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.configuration.settings import SERVICE_USERS
from dockstack.deploy.recipes import accounts

pytestmark = pytest.mark.unit


@pytest.fixture
def commands(machine):
    one = machine({"stat -c": {"success": False}})
    accounts.make(one)
    return one.commands


@pytest.mark.parametrize("user", SERVICE_USERS)
def test_a_service_owns_its_state_and_neither_its_configuration_nor_its_logs(commands, user):
    owners = {
        command.split()[3]: command.partition("chown ")[2].split()[0]
        for command in commands
        if command.startswith("mkdir -p -- ")
    }
    assert owners[f"/var/lib/{user}"] == f"{user}:{user}"
    assert owners[f"/etc/{user}"] == f"root:{user}"
    # supervisord and systemd open the logs as root, and follow what stands there
    assert owners[f"/var/log/{user}"] == "root:adm"
