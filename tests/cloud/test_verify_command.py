# SPDX-License-Identifier: Apache-2.0
"""The command itself: its exit status, its JSON, and what it leaves behind when it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from dockstack.verify.model import PREFIX
from dockstack.verify.probe import wait_until
from dockstack.verify.sweep import sweep

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

COMMAND = [sys.executable, "-m", "dockstack.cli", "verify"]


def ours(connection):
    return [each for each in connection.compute.servers(all_projects=True) if each.name.startswith(PREFIX)]


def test_json_and_exit_status(connection):
    done = subprocess.run([*COMMAND, "--only", "docker", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert [result["name"] for result in document["results"]] == ["docker"]
    assert ours(connection) == []


def test_an_image_that_is_not_there_is_an_error_with_a_cure():
    done = subprocess.run([*COMMAND, "--image", "no-such"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no image 'no-such'" in done.stderr
    assert "Traceback" not in done.stderr


def hear_interrupts():
    """Undo what a shell does to its background jobs, and so to what these tests start: it has them ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_and_wait_for_a_server(connection):
    process = subprocess.Popen(
        [*COMMAND, "--only", "login"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - no threads here that could hold a lock
    )
    wait_until(lambda: ours(connection), 240, "verify to make a server")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_stopped_it_takes_everything_back(connection, number):
    process = start_and_wait_for_a_server(connection)
    process.send_signal(number)
    assert process.wait(240) != 0
    assert ours(connection) == []
    assert [key.name for key in connection.compute.keypairs() if key.name.startswith(PREFIX)] == []


def test_killed_the_next_run_sweeps(connection):
    process = start_and_wait_for_a_server(connection)
    process.kill()
    process.wait()
    removed = sweep(connection, 240, print, admin=True)
    assert any(each.startswith("server ") for each in removed)
    assert ours(connection) == []
    assert sweep(connection, 240, print, admin=True) == []
