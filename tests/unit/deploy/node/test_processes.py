# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from dockstack.deploy.node import listeners, processes
from dockstack.waiting import wait_for

pytestmark = pytest.mark.unit

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"


@pytest.fixture
def start():
    started = []

    def go(code, **environment):
        line = [sys.executable, "-c", code]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, env={**os.environ, **environment})
        started.append(process)
        process.stdout.readline()
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_mark_is_found_in_the_whole_tree(start):
    code = "import subprocess; subprocess.Popen(['sleep', '60']); print(1, flush=True); import time; time.sleep(60)"
    process = start(code, DOCKSTACK_TEST_MARK="x")
    found = processes.marked("DOCKSTACK_TEST_MARK", "x")
    assert process.pid in found
    assert set(found) == processes.tree(process.pid, processes.snapshot())
    processes.end(found, 5)
    process.wait()
    assert not processes.marked("DOCKSTACK_TEST_MARK")


def test_a_process_is_read_as_psutil_reads_it_whatever_its_name(tmp_path):
    program = tmp_path / "a) Z 1 (b c"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as started:
        try:
            wait_for(lambda: psutil.Process(started.pid).name() == program.name, 60, 0.05)  # exec sets it
            seen, expected = processes.snapshot()[started.pid], psutil.Process(started.pid)
            assert (seen.parent, seen.name) == (os.getpid(), "a) Z 1 (b c")
            assert seen.started == pytest.approx(expected.create_time(), abs=0.02)
        finally:
            started.kill()


def test_what_does_not_end_is_killed(start):
    process = start(STUBBORN)
    began = time.monotonic()
    processes.end([process.pid], 0.3)
    assert process.wait() == -signal.SIGKILL
    assert time.monotonic() - began < 40


def test_a_zombie_is_gone(start):
    process = start("print(1, flush=True)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is not buried
    assert processes.look(process.pid) is None


def test_memory_and_age_of_ourselves():
    assert processes.pss([os.getpid()]) > 1024 * 1024
    assert processes.started_at(os.getpid()) <= time.time()


def test_a_listener_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = next(one for one in listeners.listening() if one.port == port)
    assert (found.address, found.pid, found.ours) == ("127.0.0.1", os.getpid(), False)


def test_who_listens_on_a_port(start):
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(1, flush=True); time.sleep(60)"
    other = start(code)
    theirs = next(one.port for one in listeners.listening() if one.pid == other.pid)
    assert listeners.holds({os.getpid(), other.pid}, theirs)
    assert not listeners.holds({os.getpid()}, theirs)


def test_who_listens_in_another_network_namespace(tmp_path, monkeypatch):
    """The services of a further host do; sockets of all namespaces have inodes of their own."""
    line = (
        "   0: 0100007F:201E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {} 1 0 100 0 0 10 0"
    )
    for pid, namespace, listener, opened in ((10, 1, 500, 500), (11, 2, 600, 600), (12, 2, 600, 601)):
        process = tmp_path / str(pid)
        for name in ("ns", "fd", "net"):
            (process / name).mkdir(parents=True)
        (process / "ns/net").symlink_to(f"net:[{namespace}]")
        (process / "fd/3").symlink_to(f"socket:[{opened}]")
        (process / "net/tcp").write_text(f"  sl  local_address ...\n{line.format(listener)}\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert listeners.holds({10}, 8222)
    assert listeners.holds({11}, 8222)
    assert listeners.holds({12, 11}, 8222)
    assert not listeners.holds({12}, 8222)
    assert not listeners.holds({11}, 22)
    assert not listeners.holds({99}, 8222)  # ended meanwhile


def test_a_persons_process_is_not_ours_whatever_it_carries(start, monkeypatch):
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(1, flush=True); time.sleep(60)"
    process = start(code, DOCKSTACK_SERVICE="keystone")
    for person in (False, True):
        monkeypatch.setattr(listeners, "_is_person", lambda _uid, person=person: person)
        found = next(one for one in listeners.listening() if one.pid == process.pid)
        assert found.ours is not person


@pytest.mark.parametrize(
    ("uid", "shell", "person"),
    [(0, "/bin/bash", False), (990, "/bin/sh", False), (1500, "/usr/sbin/nologin", False), (1000, "/bin/bash", True)],
)
def test_people_can_log_in(monkeypatch, uid, shell, person):
    monkeypatch.setattr(listeners.pwd, "getpwuid", lambda _uid: SimpleNamespace(pw_shell=shell))
    assert listeners._is_person(uid) is person


def test_addresses_of_both_families():
    assert listeners.parse_address("0100007F:1F90", socket.AF_INET) == ("127.0.0.1", 8080)
    assert listeners.parse_address("00000000000000000000000001000000:0016", socket.AF_INET6) == ("::1", 22)


def test_these_tests_end_nothing_of_the_machine_s():
    """A cloud's services and servers may run here; the fixture of all tests of the deployment sees to that."""
    foreign = subprocess.Popen(
        ["setsid", "--fork", "sh", "-c", "echo $$; exec sleep 60"], stdout=subprocess.PIPE, text=True
    )
    pid = int(foreign.stdout.readline())
    foreign.wait()
    foreign.stdout.close()
    try:
        processes.end([pid], 0.1)
        assert processes.look(pid) is not None
    finally:
        os.kill(pid, signal.SIGKILL)


def renamed(name, *words, first="pass", then="pass", **environment):
    """Start a process by a name of its choice, with further arguments."""
    rename = f"with open('/proc/self/comm', 'w') as comm: comm.write({name!r})"
    program = f"{first}\n{rename}\n{then}\nprint(1, flush=True)\ninput()"
    started = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    started.stdout.readline()
    return started


@pytest.mark.parametrize(
    ("name", "words", "code", "marks"),
    [
        ("forked:x", ("/a/fork_shim.py",), "pass", "ss"),
        ("forked:", ("/a/fork_shim.py",), "pass", "ss"),
        ("forked:0PID", ("/a/fork_shim.py",), "pass", "ss"),
        ("", ("/a/fork_shim.py",), "pass", "ss"),
        ("forked:PID", (), "pass", "ss"),
        ("forked:PID", ("/a/fork_shim.py",), "pass", "st"),
        ("forked:PID", ("/a/fork_shim.py",), "import os; os.setuid(65534)", "ss"),
    ],
    ids=("letters", "nothing", "zero", "no-name", "other-program", "other-mark", "other-user"),
)
def test_a_process_by_the_name_of_a_shim_adopts_nobody(start, name, words, code, marks):
    """Names are free to choose, also in a server, whose processes the machine sees."""
    other = start("import time; print(1, flush=True); time.sleep(60)", DOCKSTACK_SERVICE=marks[0])
    said = renamed(name.replace("PID", str(other.pid)), *words, then=code, DOCKSTACK_SERVICE=marks[1])
    try:
        everything = processes.snapshot()
        assert everything[other.pid].parent == os.getpid()
        assert processes.tree(said.pid, everything) == {said.pid}
    finally:
        said.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="a shim is root's")
@pytest.mark.parametrize("inside", [False, True], ids=("here", "container"))
def test_a_shim_of_roots_on_this_machine_stands_for_a_process_of_its_service(start, inside):
    other = start("import time; print(1, flush=True); time.sleep(60)", DOCKSTACK_SERVICE="s")
    unshare = "import ctypes, os; ctypes.CDLL(None).unshare(0x20000000); os.fork() and (os.wait(), os._exit(0))"
    first = unshare if inside else "pass"  # its child is in the new namespace
    said = renamed(f"forked:{other.pid}", "/a/fork_shim.py", first=first, DOCKSTACK_SERVICE="s")
    try:
        everything = processes.snapshot()
        shim = next(one for one in everything.values() if one.name == f"forked:{other.pid}")
        assert (everything[other.pid].parent == shim.pid) is not inside
    finally:
        said.communicate()
