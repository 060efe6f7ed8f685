# SPDX-License-Identifier: Apache-2.0
"""A short story of chaos: a handful of kills, and nothing is lost, left over or stuck.

`dockstack chaos --minutes 40 --kills 200` is the long one. Here engines, the bus and the database are spared: what
their death costs Nova takes minutes to come right.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import node
import pytest

from dockstack.deploy.node import processes
from dockstack.verify.model import PREFIX
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import boot
from dockstack.verify.sweep import sweep

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(1500)]

COMMAND = [sys.executable, "-m", "dockstack.cli", "chaos"]
KILLS = 8
VICTIMS = ("nova-compute", "shim", "lxcfs", "ovs-vswitchd", "ovn-controller", "nova-scheduler", "placement-api")


def ours(connection):
    return [each for each in connection.compute.servers(all_projects=True) if each.name.startswith(PREFIX)]


def test_eight_kills_lose_nothing(connection, tmp_path):
    journal = tmp_path / "journal.jsonl"
    story = ["--seed", "3", "--minutes", "1.5", "--kills", str(KILLS), "--servers", "4"]
    victims = [word for victim in VICTIMS for word in ("--victim", victim)]
    command = [*COMMAND, *story, *victims, "--json", "--yes", "--journal", str(journal)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stderr)
    assert done.returncode in {0, 1}, done.stderr
    document = json.loads(done.stdout)
    assert document["findings"] == []
    assert document["passed"] is True
    assert sum(document["kills"].values()) + document["missed"] == KILLS
    assert sum(document["actions"].values()) > KILLS, "servers were worked on meanwhile"
    assert document["lines"] > 0, "the servers' logs were read"
    notes = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len([note for note in notes if note["what"] == "kill"]) == KILLS
    assert ours(connection) == []


def test_servers_of_others_are_not_endangered_unasked(ctx, monkeypatch):
    monkeypatch.setattr("dockstack.verify.context.PREFIX", "a-stranger-")
    stranger = boot(ctx)
    done = subprocess.run(
        [*COMMAND, "--minutes", "0.1"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert "servers of others" in done.stderr
    assert "--yes" in done.stderr
    assert ctx.connection.compute.get_server(stranger.id).status == "ACTIVE"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_stopped_it_leaves_nothing_or_the_next_run_removes_it(connection, number):
    with subprocess.Popen(
        # One server: another one's request could still be on its way when all is looked for.
        [*COMMAND, "--minutes", "5", "--kills", "0", "--servers", "1", "--yes"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here yet
    ) as process:
        wait_until(lambda: ours(connection), 240, "chaos to make a server")
        assert processes.look(process.pid)
        process.send_signal(number)
        process.wait(400)
    if number is signal.SIGKILL:
        assert ours(connection)
        sweep(connection, 240, lambda text: None, admin=True)
    wait_until(lambda: not ours(connection), 240, "nothing of it to be left")
    assert node.stray_containers(connection) == []
