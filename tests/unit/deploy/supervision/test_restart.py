# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import http.server
import os
import socket
import subprocess
import threading
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from dockstack.deploy.node import processes
from dockstack.deploy.node.output import Output, StepFailedError
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.supervision import readiness, restart
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.readiness import Answer
from dockstack.deploy.supervision.restart import ensure_running, needs_start, wait_until_ready
from dockstack.deploy.supervision.services import Check, CheckKind, Service, ServiceStart

pytestmark = pytest.mark.unit


class Recorder:
    """A backend in memory."""

    name = "recorder"

    def __init__(self):
        self.calls = []
        self.running = False
        self.dies = False

    def render(self, service):
        return " ".join(service.command)

    def define(self, service):
        self.calls.append("define")
        return True

    def look(self, service):
        return RunState(self.running, 1 if self.running else None, failed=self.dies, reason="" if self.running else "x")

    def start(self, service):
        self.calls.append("start")
        self.running = not self.dies

    def sweep(self, service):
        self.calls.append("sweep")


@pytest.fixture
def cloud(machine, tmp_path):
    conf = tmp_path / "nova.conf"
    conf.write_text("1")

    def build():
        digest = hashlib.sha256(conf.read_bytes()).hexdigest()
        one = machine({"sha256sum": f"{digest}  {conf}"})
        one.backend = backend
        return one

    backend = Recorder()
    service = Service(name="nova-compute", command=("run",), watch=(str(conf),), log=str(tmp_path / "log"))
    return build, backend, service, conf


def test_the_one_rule():
    assert needs_start(None, "a", running=True)
    assert needs_start("a", "b", running=True)
    assert needs_start("a", "a", running=False)
    assert not needs_start("a", "a", running=True)


def test_a_second_run_starts_nothing(cloud):
    build, backend, service, _ = cloud
    assert ensure_running(build(), service)
    backend.calls.clear()
    assert not ensure_running(build(), service)
    assert backend.calls == ["define", "sweep"]


def test_a_start_is_noted_with_the_time_until_the_service_was_ready(cloud, monkeypatch):
    build, _, service, _ = cloud
    clock = iter([100.0, 102.5, 106.0])  # work begins, the start begins, the service is ready
    monkeypatch.setattr(restart, "wait_until_ready", lambda *_: None)
    first, second = build(), build()
    monkeypatch.setattr(restart, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    first.began = next(clock)
    ensure_running(first, service)
    assert first.starts == [ServiceStart("nova-compute", 2.5, 3.5)]
    monkeypatch.setattr(restart, "time", SimpleNamespace(monotonic=lambda: 0.0))
    ensure_running(second, service)
    assert second.starts == []


def test_a_changed_file_restarts_once(cloud):
    build, _backend, service, conf = cloud
    ensure_running(build(), service)
    conf.write_text("2")
    assert ensure_running(build(), service)
    assert not ensure_running(build(), service)


def test_a_changed_definition_restarts(cloud):
    build, _, service, _ = cloud
    ensure_running(build(), service)
    assert ensure_running(build(), Service(name=service.name, command=("run", "-v"), watch=service.watch))


def test_a_stopped_service_is_started(cloud):
    build, backend, service, _ = cloud
    ensure_running(build(), service)
    backend.running = False
    assert ensure_running(build(), service)


def test_no_restart_is_lost_when_a_run_dies_between_change_and_restart(cloud):
    build, backend, service, conf = cloud
    ensure_running(build(), service)
    conf.write_text("changed; then the run was killed before it came to the restart")
    backend.calls.clear()
    assert ensure_running(build(), service)
    assert "start" in backend.calls


def test_no_restart_is_lost_when_a_run_dies_in_the_start(cloud, monkeypatch):
    build, backend, service, conf = cloud
    ensure_running(build(), service)
    conf.write_text("2")

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "start", killed)
    with pytest.raises(KeyboardInterrupt):
        ensure_running(build(), service)
    monkeypatch.undo()
    conf.write_text("1")  # even back at the recorded content: what runs now was started with nobody knows what
    assert ensure_running(build(), service)


def test_a_service_that_gives_up_fails_with_its_log(cloud, tmp_path, machine):
    _, backend, service, _ = cloud
    backend.dies = True
    one = machine({"tail -c": ["first", "password ********", "the cause"]})
    one.backend = backend
    with pytest.raises(StepFailedError) as failed:
        ensure_running(one, service)
    assert "the cause" in failed.value.details
    assert str(tmp_path / "log") in failed.value.resolution
    assert one.records.started_with(service.name) is None


def test_secrets_do_not_reach_the_shown_log(cloud, machine):
    _, backend, service, _ = cloud
    backend.dies = True
    one = machine()
    secret = one.secrets.get("admin")
    two = machine({"tail -c": f"connecting with {secret} to mysql+pymysql://nova:{secret}@localhost"})
    two.backend = backend
    with pytest.raises(StepFailedError) as failed:
        ensure_running(two, service)
    assert secret not in failed.value.details
    assert "mysql" in failed.value.details


def test_readiness_is_asked_for_on_the_node(cloud):
    build, _, _service, _ = cloud
    checked = Service(name="x", command=("run",), check=Check(CheckKind.TCP, "127.0.0.1:99"))
    one = build()
    ensure_running(one, checked)
    assert any("/dev/tcp/127.0.0.1/99" in command for command in one.commands)


def test_nobody_answers_in_a_services_place(cloud, machine):
    # a local user who takes the port first would be handed the administrator's password by the next step
    _, backend, _, _ = cloud
    one = machine()
    one.node = replace(one.node, connector="@local")
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["sleep", "60"]) as other:
        check = Check(CheckKind.TCP, f"127.0.0.1:{server.getsockname()[1]}", timeout=0.2)
        service = Service(name="keystone", command=("run",), check=check)
        backend.look = lambda _: RunState(running=True, pid=os.getpid())
        wait_until_ready(one, backend, service)
        backend.look = lambda _: RunState(running=True, pid=other.pid)
        with pytest.raises(StepFailedError, match="another process listens on its port"):
            wait_until_ready(one, backend, service)
        other.kill()


def test_the_port_of_a_check():
    assert Check(CheckKind.TCP, "127.0.0.1:25672").port == 25672
    assert Check(CheckKind.HTTP, "http://127.0.0.1:5000/").port == 5000
    assert Check(CheckKind.UNIX, "/run/x:1").port is None


SILENT = Answer("no answer")
STARTING = Service(name="keystone", command=("run",), check=Check(CheckKind.TCP, "127.0.0.1:9", timeout=90.0))


class Clock:
    """Lets ``seconds`` pass with each nap."""

    def __init__(self, monkeypatch, seconds=10.0):
        self.now, self.naps, self.seconds = 0.0, 0, seconds
        monkeypatch.setattr(restart.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(restart.time, "sleep", self.sleep)

    def sleep(self, _):
        self.now += self.seconds
        self.naps += 1


@pytest.fixture
def starting(machine, monkeypatch):
    """A service that answers after ``ready`` seconds, and whose process uses ``share`` of a processor until then."""

    def build(ready, share, answer=SILENT, pid=lambda _: 7):
        clock, one, backend = Clock(monkeypatch), machine(), Recorder()
        backend.look = lambda _: RunState(running=True, pid=pid(clock.now))
        monkeypatch.setattr(restart, "_answer", lambda *_: Answer() if clock.now >= ready else answer)

        def run(command, **_):
            listing = [f"{pid(clock.now)} 1 {int(clock.now * share)} 0 9 it", "99 1 100000 0 9 other"]
            return Output(True, "\n".join(listing if command == processes.LISTING else []), "")

        monkeypatch.setattr(one, "run", run)
        return clock, one, backend

    return build


def test_a_service_is_waited_for_as_long_as_it_works(starting):
    clock, one, backend = starting(ready=400, share=0.07)
    wait_until_ready(one, backend, STARTING)
    assert clock.now == 400


@pytest.mark.parametrize(
    ("share", "answer", "until"),
    [
        (0.01, SILENT, 100),  # it idles, so it hangs
        (0.9, Answer("it answers 500", spoken=True), 100),  # busy with our questions, and not with its start
        (0.9, SILENT, 1900),  # it works for ever
    ],
)
def test_a_service_that_hangs_or_is_broken_is_not(starting, share, answer, until):
    clock, one, backend = starting(ready=10000, share=share, answer=answer)
    with pytest.raises(StepFailedError, match=answer.problem):
        wait_until_ready(one, backend, STARTING)
    assert clock.now == until


def test_the_work_of_a_new_main_process_counts_from_its_start(starting):
    clock, one, backend = starting(ready=170, share=0.07, pid=lambda now: 7 if now < 60 else 8)
    wait_until_ready(one, backend, STARTING)
    assert clock.now == 170


def test_the_time_of_a_start_begins_when_it_is_its_turn(starting):
    """As systemd tells of a restart whose stop takes long, and of a start behind a message bus that takes long."""
    clock, one, backend = starting(ready=340, share=0.0)
    after = backend.look
    backend.look = lambda service: RunState(running=False, waiting=True) if clock.now < 300 else after(service)
    wait_until_ready(one, backend, STARTING)
    assert clock.now == 340


def test_what_processes_have_used_is_read_from_ps():
    lines = LocalShell().run(processes.LISTING).lines
    own = psutil.Process().cpu_times()
    assert processes.processor_seconds(os.getpid(), lines) >= int(own.user + own.system) - 1  # and its descendants'
    some = ["1 0 500 0 9 a", "2 1 3 7 9 b", "3 2 4 7 9 c d", "4 1 50 7 9 e", "5 3 1 7 9 f"]
    assert processes.processor_seconds(2, some) == 8
    assert processes.processor_seconds(6, lines[:1]) == 0


@pytest.mark.parametrize(
    ("row", "used"),
    [
        ("3 1 0 0 9 forked:4", 57),
        ("3 1 0 0 9 forked:x", 7),
        ("3 1 0 0 9 forked:04", 7),
        ("3 1 0 0 9 forked:4 5", 7),
        ("3 1 0 0 9 ", 7),
        ("3 1 0 1000 9 forked:4", 7),
        ("3 1 0 0 8 forked:4", 7),
        ("", 7),
    ],
    ids=("shim", "no-number", "zero", "two", "no-name", "user", "namespace", "nothing"),
)
def test_a_name_that_somebody_chose_counts_nobody_to_it(row, used):
    """Whoever stands for another process is root's, in the service's own pid namespace."""
    rows = ["3 1 7 0 9 main", "4 1 50 0 9 other"]
    assert processes.processor_seconds(3, [row.replace("3 1 0", "3 1 7", 1) or rows[0], *rows[1:]]) == used


def test_a_run_that_is_killed_while_a_service_starts_leaves_it_alone(cloud, monkeypatch):
    build, backend, service, _ = cloud

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(restart, "wait_until_ready", killed)
    with pytest.raises(KeyboardInterrupt):
        ensure_running(build(), service)
    monkeypatch.undo()
    backend.calls.clear()
    assert not ensure_running(build(), service)
    assert backend.calls == ["define", "sweep"]


def test_one_that_hangs_is_started_anew_by_the_next_run(cloud, monkeypatch):
    build, backend, service, _ = cloud
    monkeypatch.setattr(restart, "_answer", lambda *_: SILENT)
    Clock(monkeypatch)
    with pytest.raises(StepFailedError):
        ensure_running(build(), service)
    monkeypatch.undo()
    backend.calls.clear()
    assert ensure_running(build(), service)
    assert "start" in backend.calls


@pytest.mark.parametrize(("status", "spoken"), [(200, True), (503, True)])
def test_an_api_that_answers_has_spoken(status, spoken):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as api:
        thread = threading.Thread(target=api.handle_request)
        thread.start()
        target = f"http://127.0.0.1:{api.server_port}/"
        answer = readiness.ask(Check(CheckKind.HTTP, target))
        thread.join()
    assert answer == ("" if status == 200 else f"{target} answers 503", spoken)
    assert not readiness.ask(Check(CheckKind.HTTP, target)).spoken  # nobody listens any more
