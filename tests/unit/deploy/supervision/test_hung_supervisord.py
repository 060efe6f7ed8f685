# SPDX-License-Identifier: Apache-2.0
"""A real supervisord that is stopped, as one that hangs: no command waits for it for long."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dockstack.deploy import paths
from dockstack.deploy.node import processes
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.supervision import status
from dockstack.deploy.supervision.backends import supervisor
from dockstack.deploy.supervision.backends.supervisor import Supervisor, SupervisordHungError
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit

SERVICES = [Service(f"service-{number}", ("/bin/sleep", "60")) for number in range(800)]
HUNG = r"supervisord \(pid \d+\) did not answer"


@pytest.fixture
def backend(monkeypatch):
    """One of our own in a directory of the test's, with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="supervisord-") as here:
        text = supervisor.SUPERVISORD_CONF
        for place in ("ETC", "RUN", "LOG"):
            text = text.replace(getattr(paths, place), here)
        assert set(re.findall(r"=(/.*)/", text)) == {here, f"{here}/supervisor/programs"}  # no cloud's on this machine
        monkeypatch.setattr(supervisor, "SUPERVISORD_CONF", text)
        for name in ("DIRECTORY", "PROGRAMS", "CONFIGURATION", "PIDFILE", "LOG", "OUTPUT"):
            place = next(
                each for each in (paths.ETC, paths.RUN, paths.LOG) if getattr(supervisor, name).startswith(each)
            )
            monkeypatch.setattr(supervisor, name, getattr(supervisor, name).replace(place, here))
        monkeypatch.setattr(supervisor, "SOCKET", f"{here}/supervisor.sock")
        for name in ("RUN", "LOG"):
            monkeypatch.setattr(paths, name, here)
        monkeypatch.setattr(paths, "CLI_VENV", sys.prefix)
        monkeypatch.setattr(supervisor, "ASK_LIMIT", 60.0)
        monkeypatch.setattr(supervisor, "START_LIMIT", 120.0)
        monkeypatch.setattr(supervisor, "HUNG_LIMIT", 0.2)
        monkeypatch.setattr(supervisor.Records, "here", lambda: Records(Path(here) / "state"))
        started = Supervisor(LocalShell())
        started.prepare()
        yield started
        for pid in supervisor._supervisors():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def hung(backend, monkeypatch):
    (pid,) = supervisor._supervisors()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(supervisor, "ASK_LIMIT", 1.0)
    return pid


def test_one_that_answers_tells_the_truth(backend):
    assert [one.problem for one in status.conditions(SERVICES[:2], backend)] == ["not started"] * 2
    (pid,) = supervisor._supervisors()
    backend.prepare()
    assert supervisor._supervisors() == [pid]


def test_status_says_it_once_its_time_is_over_however_many_services_there_are(backend, hung):
    began = time.monotonic()
    found = status.conditions(SERVICES, backend)
    assert time.monotonic() - began < 60  # and not 100, one second for every eight
    assert {(one.state, one.healthy) for one in found} == {("stopped", False)}
    assert all(f"(pid {hung}) did not answer" in one.problem for one in found)


def test_up_and_clean_have_another_one_running_in_its_place(backend, hung, monkeypatch):
    began = time.monotonic()
    backend.wake()
    assert time.monotonic() - began < 120
    (pid,) = supervisor._supervisors()
    assert pid != hung
    monkeypatch.setattr(supervisor, "ASK_LIMIT", 60.0)
    assert backend.look(SERVICES[0]).reason == "not started"


def test_down_names_it_and_does_not_wait(backend, hung):
    began = time.monotonic()
    with pytest.raises(SupervisordHungError, match=HUNG) as caught:
        backend.stop_all(SERVICES[:8], lambda _: None)
    assert f"kill -9 {hung}" in caught.value.resolution
    assert time.monotonic() - began < 120


def test_the_end_of_all_does_not_wait_for_it(backend, hung):
    began = time.monotonic()
    backend.finish()
    assert time.monotonic() - began < 120
    assert processes.look(hung) is None
