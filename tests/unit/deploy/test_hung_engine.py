# SPDX-License-Identifier: Apache-2.0
"""An engine that takes connections and never answers, as one that is stopped: no command waits for it for long."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from dockstack.cli import root_disks
from dockstack.deploy.hypervisors import docker
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node.output import ENGINE_LIMIT, StepFailedError, StepHungError
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.run import teardown
from dockstack.deploy.supervision import readiness, restart, status
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.services import Check, CheckKind, Service
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

CLIENT = """\
#!/usr/bin/env python3
import socket, sys
engine = socket.socket(socket.AF_UNIX)
engine.connect(sys.argv[2].removeprefix("unix://"))
engine.sendall(b"GET /_ping HTTP/1.1\\r\\n\\r\\n")
engine.recv(1)
"""


class Running:
    """A supervisor for which everything runs; that it stops something is remembered."""

    name = "supervisor"

    def __init__(self) -> None:
        self.stopped = []

    def look(self, service):
        return RunState(running=True, pid=os.getpid())

    def stop(self, service):
        self.stopped.append(service.name)


@pytest.fixture
def engine(monkeypatch):
    """The engine's socket."""
    with tempfile.TemporaryDirectory(prefix="engine-") as here, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{here}/docker.sock")
        listener.listen()
        client = Path(here) / "docker"
        client.write_text(CLIENT)
        client.chmod(0o755)
        monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{here}")  # where there is Docker's own client, that is taken
        for owner, name, limit in (
            (docker, "ENGINE_LIMIT", 1),
            (host_removal, "ENGINE_LIMIT", 1),
            (root_disks, "PATIENCE", "1"),
            (status, "PATIENCE", 0.5),
        ):
            monkeypatch.setattr(owner, name, limit)
        monkeypatch.setitem(readiness.ask.__kwdefaults__, "patience", 0.5)
        yield f"{here}/docker.sock"


@pytest.fixture
def service(engine):
    check = Check(CheckKind.COMMAND, command=("docker", "-H", f"unix://{engine}", "version"), timeout=1)
    return Service("docker", ("/usr/bin/dockerd",), check=check, kill_mode="process")


@pytest.fixture
def machine(engine, service, this_machine):
    found = this_machine(f"docker.socket={engine}", "docker.lxcfs=true")
    found.backend = Running()
    found.records.define(service)
    return found


@pytest.fixture(autouse=True)
def _in_time():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < ENGINE_LIMIT - 5, "nothing here waits longer than a second or two"


def test_status_says_so_and_leaves_its_disks_out(engine, service):
    (found,) = status.conditions([service], Running())
    assert (found.state, found.healthy) == ("running", False)
    assert "does not end within" in found.problem
    assert root_disks.look([Service("nova-compute", ("x",))], engine, LocalShell()) == []


def test_up_says_which_service_does_not_become_ready(machine, service):
    with pytest.raises(StepFailedError, match=r"docker does not become ready: .* does not end within"):
        restart.wait_until_ready(machine, machine.backend, service)


def test_up_says_what_hangs_where_it_asks_the_engine_itself(machine):
    with pytest.raises(StepHungError, match=r"did not end within 1 s and was ended: docker .*info"):
        Docker(machine.attributes)._info(machine)


def test_clean_refuses_before_it_removes_anything(machine):
    with pytest.raises(DockstackError, match=r"does not answer .* so its servers cannot be removed") as caught:
        teardown.clean(machine, packages=False)
    assert f"kill -9 {os.getpid()}" in caught.value.resolution
    assert machine.backend.stopped == []
    assert machine.changes == 0


def test_down_stops_it(machine):
    Docker(machine.attributes).stop(machine)
    assert machine.backend.stopped == ["docker"]


def test_the_removal_of_a_further_host_goes_on_without_its_engine(machine, engine, monkeypatch):
    monkeypatch.setattr(host_removal.hosts, "outside", lambda _key, _socket: engine)
    host_removal._remove_servers(machine, "host2")
    assert machine.changes == 0
