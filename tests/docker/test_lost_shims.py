# SPDX-License-Identifier: Apache-2.0
"""A shim is killed: its server dies with it and starts again, whether or not the engine was there to see it."""

from __future__ import annotations

import os
import signal

import pytest
from private_engine import wait_for

from dockstack.compute.model import PowerState
from dockstack.deploy.node import processes


def shim_of(container_id):
    """The oldest of them: for a moment, one that it starts looks the same."""
    found = [
        process
        for process in processes.snapshot().values()
        if process.name.startswith("containerd-shim") and container_id in processes.arguments(process.pid)
    ]
    return min(found, key=lambda process: (process.started, process.pid)).pid


@pytest.mark.parametrize("engine_runs", [True, False], ids=["running-engine", "stopped-engine"])
def test_a_server_without_its_shim_starts_again(lab, engine_runs, private_engine) -> None:
    server = lab.boot(ports=())
    before = lab.state(server)
    if not engine_runs:
        private_engine.kill()
    os.kill(shim_of(before.id), signal.SIGKILL)
    if not engine_runs:
        private_engine.start()

    wait_for(lambda: lab.state(server).state is PowerState.SHUTDOWN, "the engine to notice")
    wait_for(lambda: processes.look(before.pid) is None, "the end of what nobody watches any more")
    lab.engine.start(server.container_name)
    after = lab.state(server)
    assert (after.id, after.state) == (before.id, PowerState.RUNNING)
    assert after.pid != before.pid
