# SPDX-License-Identifier: Apache-2.0
"""The clouds that suites for a DevStack name can be used: all of them log in at a real Keystone, with their roles."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import keystoneauth1.identity.v3
import keystoneauth1.session
import pytest
import yaml
from keystoneauth1.exceptions import ConnectFailure

from dockstack.deploy.configuration import desired_state
from dockstack.deploy.configuration.clients import clouds_yaml
from dockstack.deploy.configuration.settings import SECRET_NAMES, Ports, Settings
from dockstack.deploy.payload import provision
from held_ports import hold_port, port_of

PATIENCE = 240
ADMINISTRATOR = {"admin", "member"}  # the one implies the other, and that `reader`
ROLES = {
    "dockstack": ADMINISTRATOR,
    "dockstack-demo": {"anotherrole", "member"},
    "devstack": {"anotherrole", "member"},
    "devstack-admin": ADMINISTRATOR,
    "devstack-admin-demo": ADMINISTRATOR,
    "devstack-alt": {*ADMINISTRATOR, "anotherrole"},
    "devstack-alt-member": {"member"},
    "devstack-alt-reader": set(),
    "devstack-reader": set(),
    "devstack-system-admin": ADMINISTRATOR,
    "devstack-system-member": {"member"},
    "devstack-system-reader": set(),
}
"""Besides `reader`, which they all have."""


@pytest.fixture
def settings(tmp_path):
    """An empty cloud, whose Keystone answers."""
    held = hold_port()
    secrets = {name: f"secret-{name}" for name in SECRET_NAMES}
    found = Settings(secrets, "node1", ports=Ports(keystone=port_of(held)), compatibility="devstack")
    program = Path(__file__).with_name("keystone_server.py")
    line = [sys.executable, "-W", "ignore", program, tmp_path, str(port_of(held))]
    with (
        held,
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True) as server,
    ):
        try:
            server.stdin.write(found.secret("admin_password") + "\n")
            server.stdin.close()
            await_answer(found, server, tmp_path / "log")
            yield found
        finally:
            server.kill()


def await_answer(settings, server, log):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            keystoneauth1.session.Session().get(settings.identity_url)
        except ConnectFailure:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        else:
            return


def access(cloud):
    """Log in as clients do and return what Keystone says of it."""
    auth = keystoneauth1.identity.v3.Password(**cloud["auth"])
    return auth.get_access(keystoneauth1.session.Session(auth=auth))


def test_each_cloud_logs_in_with_the_roles_that_it_has_in_devstack(settings, capsys):
    provision.provide_identity({**desired_state.identity(settings), "accounts": {}, "services": []})
    provision.provide_people(desired_state.people(settings))
    capsys.readouterr()

    clouds = yaml.safe_load(clouds_yaml(settings))["clouds"]
    seen = {name: access(cloud) for name, cloud in clouds.items()}
    assert {name: set(each.role_names) - {"reader", "manager"} for name, each in seen.items()} == ROLES
    assert [name for name, each in seen.items() if "reader" not in each.role_names] == []
    assert [name for name, each in seen.items() if each.system_scoped] == [
        name for name in clouds if name.startswith("devstack-system")
    ]

    provision.provide_people(desired_state.people(settings))
    assert capsys.readouterr().out == "", "what is there is not made again"
