# SPDX-License-Identifier: Apache-2.0
"""Services that are forked, with real processes: they are what their shims are, and end with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dockstack.deploy import payload
from dockstack.deploy.node import processes
from dockstack.waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")

PATIENCE = 30.0
PYTHON = "/usr/bin/python3"  # the shim's: a stranger may not be able to read the tests' own
NOBODY = 65534
FAMILY = "common"
SCRIPT = """\
import json, os, resource, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
umask = os.umask(0)
os.umask(umask)
seen = {
    "pid": os.getpid(),
    "arguments": sys.argv, "name": __name__, "path": sys.path[0], "directory": os.getcwd(), "umask": umask,
    "who": [*os.getresuid(), *os.getresgid()], "groups": sorted(os.getgroups()),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "mark": os.environ.get("DOCKSTACK_SERVICE"),
    "shown": open("/proc/self/environ").read().split(chr(0)), "room": "DOCKSTACK_ROOM" in os.environ,
}
print(json.dumps(seen), flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


class Server:
    """A fork server in a directory that strangers may enter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("fork_server", "fork_shim"):
            shutil.copy(Path(payload.__file__).with_name(f"{name}.py"), directory)
        (directory / "program.py").write_text(SCRIPT)
        self.shims: list[subprocess.Popen[str]] = []
        self.forked: list[int] = []
        self.start()

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], processes.SERVICE_MARK: "the-server"}
        command = [sys.executable, str(self.directory / "fork_server.py"), str(self.directory)]
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, cwd="/")
        assert wait_for(self.answers, PATIENCE, 0.02)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
            return plug.connect_ex(str(self.directory / f"{FAMILY}.sock")) == 0

    def kill(self) -> None:
        """Kill it, and wait until its families are gone, too."""
        families = [pid for pid, one in processes.snapshot().items() if one.parent == self.process.pid]
        self.process.kill()
        self.process.wait()
        assert wait_for(lambda: not any(processes.look(pid) for pid in families), PATIENCE, 0.02)

    def shim(self, argument: str, *, family: str = FAMILY, **options: object) -> subprocess.Popen[str]:
        program = [PYTHON, str(self.directory / "program.py"), argument]
        command = [PYTHON, "-I", "-S", str(self.directory / "fork_shim.py"), str(self.directory / f"{family}.sock")]
        environment = {"PATH": os.environ["PATH"], processes.SERVICE_MARK: "the-service"}
        started = subprocess.Popen(  # type: ignore[call-overload]
            [*command, *program], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, **options
        )
        self.shims.append(started)
        return started

    def service(self, **options: object) -> tuple[subprocess.Popen[str], int]:
        """Start one that waits; return its shim and its own pid."""
        shim = self.shim("wait", **options)
        pid = told(shim)["pid"]
        self.forked.append(pid)
        return shim, pid

    def close(self) -> None:
        for process in (self.process, *self.shims):
            process.kill()
            process.wait()
        for pid in self.forked:
            if processes.mark(pid, processes.SERVICE_MARK) == "the-service":
                os.kill(pid, signal.SIGKILL)


def told(shim: subprocess.Popen[str]) -> dict:
    assert shim.stdout is not None
    return json.loads(shim.stdout.readline())


@pytest.fixture
def server():
    directory = Path(tempfile.mkdtemp(prefix="forks-"))
    directory.chmod(0o755)
    made = Server(directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory)


def test_a_service_is_in_all_respects_what_its_shim_is(server):
    groups = (NOBODY, 4711, 4712)
    shim = server.shim("5", user=NOBODY, group=NOBODY, extra_groups=groups[1:], umask=0o027, cwd="/usr", pass_fds=())
    seen = told(shim)
    assert seen["pid"] != shim.pid
    assert seen["arguments"] == [str(server.directory / "program.py"), "5"]
    assert (seen["name"], seen["path"]) == ("__main__", str(server.directory))
    assert (seen["directory"], seen["umask"]) == ("/usr", 0o027)
    assert seen["who"] == [NOBODY] * 6
    assert set(seen["groups"]) - {NOBODY} == {4711, 4712}
    assert seen["mark"] == "the-service"
    assert f"{processes.SERVICE_MARK}=the-service" in seen["shown"]
    assert not seen["room"]
    assert shim.wait(PATIENCE) == 5


def test_it_keeps_the_limits_that_its_shim_has(server):
    program = str(server.directory / "program.py")
    shim = [PYTHON, "-I", "-S", str(server.directory / "fork_shim.py"), str(server.directory / f"{FAMILY}.sock")]
    command = ["prlimit", "--nofile=77:99", "--", *shim, PYTHON, program, "0"]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert seen["files"] == 77


def test_signals_reach_it_and_its_end_is_the_shims(server):
    shim, pid = server.service()
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(PATIENCE) == 7
    assert processes.look(pid) is None


def test_when_it_is_killed_so_is_its_shim(server):
    shim, pid = server.service()
    os.kill(pid, signal.SIGKILL)
    assert shim.wait(PATIENCE) == -signal.SIGKILL


def test_when_its_shim_is_killed_so_is_it(server):
    shim, pid = server.service(user=NOBODY, group=NOBODY)
    shim.kill()
    shim.wait()
    assert wait_for(lambda: processes.look(pid) is None, PATIENCE, 0.02)


def test_it_counts_to_its_shim_and_not_to_the_server(server):
    shim, pid = server.service()
    everything = processes.snapshot()
    assert processes.tree(shim.pid, everything) == {shim.pid, pid}
    assert pid not in processes.tree(server.process.pid, everything)
    listing = subprocess.run(processes.LISTING, capture_output=True, text=True, check=True).stdout.splitlines()
    assert processes.processor_seconds(shim.pid, listing) >= 0
    assert set(processes.marked(processes.SERVICE_MARK, "the-service")) >= {shim.pid, pid}
    assert pid not in processes.marked(processes.SERVICE_MARK, "the-server")


def test_services_outlive_the_server_and_the_next_forks_again(server):
    shim, pid = server.service()
    server.kill()
    alone = server.shim("3")  # nobody answers: it is the service itself
    assert told(alone)["pid"] == alone.pid
    assert alone.wait(PATIENCE) == 3
    server.start()
    assert forks_again(server)
    assert processes.look(pid) is not None
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(PATIENCE) != 0  # of which kind, only the server that is gone could say
    assert processes.look(pid) is None


def forks_again(server: Server) -> bool:
    shim = server.shim("0")
    seen = told(shim)
    shim.wait(PATIENCE)
    return seen["pid"] != shim.pid


def test_a_killed_family_takes_the_server_with_it_so_that_all_begin_anew(server):
    shim, pid = server.service()
    family = next(one for one, each in processes.snapshot().items() if each.parent == server.process.pid and one != pid)
    os.kill(family, signal.SIGKILL)
    assert server.process.wait(PATIENCE) == 1
    assert processes.look(pid) is not None
    assert shim.poll() is None


def test_a_stranger_gets_no_more_than_he_is(server):
    """Whatever a request says, the kernel says who asks."""
    seen = told(server.shim("0", user=NOBODY, group=NOBODY, extra_groups=()))
    assert 0 not in {*seen["who"], *seen["groups"]}


def test_nonsense_makes_no_service_and_harms_no_other(server):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.connect(str(server.directory / f"{FAMILY}.sock"))
        stranger.send(b"nonsense")
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(PATIENCE)
        assert len(stranger.recv(64)) == 4  # the status of a process that failed
    assert forks_again(server)


@pytest.fixture
def control_group():
    """A control group, as systemd has one for each service."""
    root = Path("/sys/fs/cgroup")
    version_1 = (root / "pids").is_dir()
    made = root / ("pids" if version_1 else "") / f"forks-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield made
    made.rmdir()


def test_it_is_counted_where_its_shim_is(server, control_group):
    procs = control_group / "cgroup.procs"
    shim, pid = server.service(preexec_fn=lambda: procs.write_text(str(os.getpid())))
    assert set(procs.read_text().split()) == {str(shim.pid), str(pid)}
    shim.kill()
    shim.wait()
    assert wait_for(lambda: not procs.read_text(), PATIENCE, 0.02)
