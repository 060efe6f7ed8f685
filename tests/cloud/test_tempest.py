# SPDX-License-Identifier: Apache-2.0
"""OpenStack's own tests against the cloud, through the real command: the slice that CI can afford.

It is chosen to touch each promise once within about five minutes on two cores: a login with the tests' own checks of
processors and names, actions on a running server, metadata over the network, and a router with floating IPs. The whole
suite is one command, `dockstack tempest`, and takes hours here.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(2500)]

COMMAND = [sys.executable, "-m", "dockstack.cli", "tempest"]
SLICE = (
    r"servers\.test_create_server\.ServersTestJSON",
    r"servers\.test_server_actions\.ServerActionsTestJSON\.test_(reboot_server_hard|stop_start_server|rebuild_server|change_server_password)$",
    r"scenario\.test_server_basic_ops",
    r"scenario\.test_network_basic_ops\.TestNetworkBasicOps\.test_network_basic_ops",
)


def test_the_slice_passes(connection, tmp_path):
    chosen = [word for pattern in SLICE for word in ("--regex", pattern)]
    done = subprocess.run(
        [*COMMAND, *chosen, "--report", str(tmp_path)], capture_output=True, text=True, check=False, timeout=2400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["failed"] == 0
    assert found["passed"] >= 10
    skipped = [name for name, test in found["tests"].items() if test["verdict"] == "skipped"]
    assert skipped == [], done.stdout
    assert [each.name for each in connection.identity.projects() if each.name.startswith("tempest-")] == []


def test_a_choice_of_nothing_is_an_error_with_a_cure():
    done = subprocess.run([*COMMAND, "--regex", "no.such.test"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "dockstack tempest --list" in done.stderr
    assert "Traceback" not in done.stderr
