# SPDX-License-Identifier: Apache-2.0
"""Only what the records say is killed, and never more of it than is meant."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dockstack.chaos.machine import Place
from dockstack.chaos.model import Victim
from dockstack.chaos.victims import Absent, Hunter, strike
from dockstack.deploy.node import processes
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.services import Service
from dockstack.verify.probe import wait_until

pytestmark = pytest.mark.unit

PLACES = (Place("", "node", ()), Place("host2", "node-2", ("enter",)))
PARENT = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('begun', flush=True); time.sleep(600)"


class Backend:
    """Knows the main processes of services by their names."""

    def __init__(self, **pids):
        self.pids = {name.replace("_", "-"): pid for name, pid in pids.items()}

    def look(self, service):
        pid = self.pids.get(service.name)
        return RunState(pid is not None, pid)


@pytest.fixture
def family():
    """A process with a child."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"begun\n"
        children = [int(pid) for pid in open(f"/proc/{parent.pid}/task/{parent.pid}/children").read().split()]  # noqa: PTH123, SIM115
        yield parent, children[0]
        strike({parent.pid, *children})


def is_there(pid):
    return processes.look(pid) is not None


def hunter(*services, **pids):
    return Hunter(services, Backend(**pids), PLACES)


def test_a_service_is_killed_with_its_workers(family):
    parent, child = family
    killed = hunter(Service("nova-conductor", ("x",)), nova_conductor=parent.pid).strike_service(Victim.CONDUCTOR, 0)
    assert set(killed) == {parent.pid, child}
    assert parent.wait(60) == -9
    wait_until(lambda: not is_there(child), 60, "the worker to be gone")


def test_an_engine_leaves_its_shims(family):
    parent, child = family
    engine = Service("docker", ("x",), kill_mode="process")
    assert set(hunter(engine, docker=parent.pid).strike_service(Victim.ENGINE, 0)) == {parent.pid}
    assert parent.wait(60) == -9
    assert is_there(child)


def test_the_other_hosts_service_is_found_by_its_name(family):
    parent, _ = family
    here, there = Service("lxcfs", ("x",)), Service("host2-lxcfs", ("x",), inside="host2")
    assert parent.pid in hunter(here, there, lxcfs=1, host2_lxcfs=parent.pid).strike_service(Victim.LXCFS, 1)


def test_what_is_not_ours_is_not_killed():
    found = Service("docker", ("x",), kill_mode="process", stoppable=False)
    with pytest.raises(Absent, match="no service docker of its own"):
        hunter(found, docker=os.getpid()).strike_service(Victim.ENGINE, 0)
    with pytest.raises(Absent, match="no service rabbitmq"):
        hunter().strike_service(Victim.BUS, 0)
    with pytest.raises(Absent, match="no further host 2"):
        hunter().strike_service(Victim.COMPUTE, 2)
    with pytest.raises(Absent, match="no further host 0"):
        hunter().strike_host(0, 0.0)


def test_a_service_that_does_not_run_is_absent():
    with pytest.raises(Absent, match="does not run"):
        hunter(Service("mariadb", ("x",))).strike_service(Victim.DATABASE, 0)


def test_neither_the_first_process_nor_ourselves_whatever_is_asked():
    sent = []
    assert strike({1, 0, -1, os.getpid()}, lambda *call: sent.append(call)) == {}
    assert sent == []
