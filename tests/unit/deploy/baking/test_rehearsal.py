# SPDX-License-Identifier: Apache-2.0
"""Databases are migrated by the stages of `up`, and by no more of them than it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from dockstack.deploy.baking import rehearsal
from dockstack.deploy.configuration.settings import DATABASES
from dockstack.deploy.run.events import Event, Kind, parse
from dockstack.deploy.run.plan import node_stages, tasks
from dockstack.deploy.wanted import inventory
from own_mounts import needs_namespaces

pytestmark = pytest.mark.unit


@pytest.fixture
def chosen():
    def stages(*assignments):
        node = inventory.load(None, (*assignments, *rehearsal.SETTINGS)).local
        return {task.stage.name: task for task in rehearsal.rehearsed(tasks(node, node_stages(node)))}

    return stages


def test_every_database_is_migrated_and_whatever_that_waits_for_is_there(chosen):
    found = chosen()
    assert {f"{user}-database" for user in DATABASES} <= set(found)
    assert all(key.partition("/")[2] in found for task in found.values() for key in task.after)


def test_nothing_is_provided_and_no_service_but_the_database_starts(chosen):
    unwanted = {"keystone-administrator", "identity", "message-bus", "token-cache", "nova", "switch", "base-image"}
    assert not unwanted & set(chosen())
    assert not [name for name in chosen() if name.startswith("hypervisor")]


def test_it_is_the_same_whatever_the_cloud_has(chosen):
    assert set(chosen("tls.enable=true", "volumes.enable=true", "key_manager.enable=true", "hosts=3")) == set(chosen())


def test_no_account_stays_whose_password_might_be_known(machine, monkeypatch):
    said = []
    monkeypatch.setattr(rehearsal, "run_sql", lambda _machine, _settings, sql: said.append(sql))
    one = machine({"hostname": "node1\nsystem"})
    database = SimpleNamespace(name="mariadb")
    monkeypatch.setattr(one.records, "services", lambda: [database])
    monkeypatch.setattr(one.backend, "stop_all", lambda services, _ended: said.append(services))
    monkeypatch.setattr(one.backend, "finish", lambda: said.append("finish"))
    rehearsal.dismiss(one)
    assert said[1:] == [[database], "finish"], "and no hypervisor is asked anything"
    assert all(f"DROP USER '{user}'@'localhost'" in said[0] for user in DATABASES)


def test_a_stage_that_failed_is_cured_by_up_and_another_bake(capsys):
    rehearsal.tell(Event(Kind.FAILED, "node1/database", cure="run `dockstack up` again: it goes on from here"))
    rehearsal.tell(Event(Kind.SAY, "node1/database", text="something"))
    failed, said = (parse(line) for line in capsys.readouterr().out.splitlines())
    assert "`dockstack bake` again" in failed.cure
    assert not said.cure


LOOK = """
import os, socket, sys
from pathlib import Path
from dockstack.deploy import paths
from dockstack.deploy.baking import rehearsal
work = Path(sys.argv[1])
paths.OPT, paths.VAR = str(work / "opt"), str(work / "var")
paths.OPENSTACK_VENV, paths.CLI_VENV = f"{paths.OPT}/openstack", f"{paths.OPT}/cli"
(work / "below").mkdir()
rehearsal.cover(work / "below")
def refused(path):
    try:
        Path(path, "dockstack-was-here").touch()
    except OSError as error:
        return error.strerror == "Read-only file system"
print(socket.gethostname(), sorted(os.listdir("/run")), os.listdir("/var/log"), Path("/etc/passwd").exists())
print([refused(path) for path in (*rehearsal.READ_ONLY, paths.OPENSTACK_VENV)])
"""


@needs_namespaces
def test_it_sees_no_name_and_no_daemon_of_the_machine_and_can_install_nothing(tmp_path):
    for place in ("opt/openstack", "opt/cli", "var"):
        (tmp_path / place).mkdir(parents=True)
    line = [*rehearsal.NAMESPACES, sys.executable, "-c", LOOK, str(tmp_path)]
    told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert told == ["localhost ['dockstack', 'mount'] [] True", "[True, True, True, True]"]
    assert os.uname().nodename != "localhost"


def processes_with(argument):
    return [one for one in psutil.process_iter(["cmdline"]) if argument in (one.info["cmdline"] or ())]


@needs_namespaces
def test_nothing_of_it_outlives_a_killed_command(tmp_path):
    note = tmp_path / "note"
    work = f"while sleep 0.05; do echo >> {note}; done"
    program = f"import subprocess; subprocess.run([*{rehearsal.NAMESPACES!r}, 'sh', '-c', '{work}'])"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as command:
        while not note.exists():
            assert command.poll() is None
            time.sleep(0.01)
        command.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (left := processes_with(work)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for one in left:
        one.kill()
    assert not left
