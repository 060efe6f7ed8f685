# SPDX-License-Identifier: Apache-2.0
"""Services that are forked, with real processes: they are what their shims are, and end with them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dockstack.deploy import payload
from dockstack.deploy.node import processes
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")

PATIENCE = 30.0
PYTHON = "/usr/bin/python3"  # the shim's: a stranger may not be able to read the tests' own
NOBODY = 65534
AS_NOBODY = ("/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--init-groups", "--")
FAMILY = "common"
PTRACE_ATTACH, PTRACE_CONT, PTRACE_DETACH = 16, 7, 17
SCRIPT = """\
import json, os, resource, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
umask = os.umask(0)
os.umask(umask)
seen = {
    "pid": os.getpid(),
    "arguments": sys.argv, "name": __name__, "path": sys.path[0], "directory": os.getcwd(), "umask": umask,
    "who": [*os.getresuid(), *os.getresgid()], "groups": sorted(os.getgroups()),
    "mark": os.environ.get("DOCKSTACK_SERVICE"), "room": "DOCKSTACK_ROOM" in os.environ,
    "shown": open("/proc/self/environ").read().split(chr(0)), "zone": time.strftime("%Z"),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name},
    "nice": os.getpriority(os.PRIO_PROCESS, 0), "processors": sorted(os.sched_getaffinity(0)),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "status": dict(line.split(":", 1) for line in open("/proc/self/status")),
    "inherited": [name for name in os.listdir("/proc/self/fd")
                  if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}") and os.get_inheritable(int(name))],
    "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net")},
}
if "multiprocessing.process" in sys.modules:
    seen["key"] = sys.modules["multiprocessing.process"].current_process().authkey.hex()
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
        self.program = str(directory / "program.py")
        Path(self.program).write_text(SCRIPT)
        self.socket = str(directory / f"{FAMILY}.sock")
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
            return plug.connect_ex(self.socket) == 0

    def family(self) -> int:
        """Return the process of the family that answers, which was forked last."""
        return max(pid for pid, one in processes.snapshot().items() if one.parent == self.process.pid)

    def kill(self) -> None:
        """Kill it, and wait until its families are gone, too."""
        families = [pid for pid, one in processes.snapshot().items() if one.parent == self.process.pid]
        self.process.kill()
        self.process.wait()
        assert wait_for(lambda: not any(processes.look(pid) for pid in families), PATIENCE, 0.02)

    def words(self, *program: str) -> list[str]:
        return [PYTHON, "-I", "-S", str(self.directory / "fork_shim.py"), self.socket, *program]

    def shim(
        self, *arguments: str, before: Sequence[str] = (), within: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start a shim; other programs stand before it, or behind it before the service's own."""
        program = arguments if arguments[0].startswith("/") else (PYTHON, self.program, *arguments)
        environment = {"PATH": os.environ["PATH"], processes.SERVICE_MARK: "the-service"}
        started = subprocess.Popen(
            [*before, *self.words(*within, *program)],
            **{
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "env": environment,
                "start_new_session": True,
                **options,
            },
        )
        self.shims.append(started)
        return started

    def service(self, **options: Any) -> tuple[subprocess.Popen[str], int]:
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


@pytest.fixture(scope="module")
def functions():
    return runpy.run_path(str(Path(payload.__file__).with_name("fork_server.py")))


def is_forked(server: Server, *arguments: str, **options: Any) -> bool:
    shim = server.shim(*(arguments or ("0",)), **options)
    seen = told(shim)
    shim.wait(PATIENCE)
    return seen["pid"] != shim.pid


def test_a_service_is_in_all_respects_what_its_command_would_be(server):
    within = [word.replace("--init-groups", "--groups=4711,4712") for word in AS_NOBODY]
    shim = server.shim("5", within=within, umask=0o027, cwd="/usr")
    seen = told(shim)
    assert seen["pid"] != shim.pid
    assert seen["arguments"] == [server.program, "5"]
    assert (seen["name"], seen["path"]) == ("__main__", str(server.directory))
    assert (seen["directory"], seen["umask"]) == ("/usr", 0o027)
    assert seen["who"] == [NOBODY] * 6
    assert seen["groups"] == [4711, 4712]
    assert seen["mark"] == "the-service"
    assert f"{processes.SERVICE_MARK}=the-service" in seen["shown"]
    assert not seen["room"]
    assert seen["inherited"] == []
    assert shim.wait(PATIENCE) == 5


def test_it_has_what_its_shim_has_from_its_supervisor(server):
    before = [
        *("prlimit", "--nofile=77:99", "--stack=4194304", "--memlock=65536", "--sigpending=50", "--"),
        *("setpriv", "--no-new-privs", "--bounding-set=-mknod", "--", "nice", "-n", "3", "taskset", "-c", "0"),
        *("sh", "-c", 'echo 321 > /proc/self/oom_score_adj; exec "$@"', "sh"),
    ]
    program = [*AS_NOBODY, PYTHON, server.program, "0"]
    forked = told(server.shim("0", before=before, within=AS_NOBODY))
    environment = {"PATH": os.environ["PATH"]}
    alone = json.loads(subprocess.run([*before, *program], check=True, capture_output=True, env=environment).stdout)
    names = ("who", "groups", "limits", "nice", "processors", "oom", "namespaces")
    assert {name: forked[name] for name in names} == {name: alone[name] for name in names}
    names = ("NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "Cpus_allowed")
    assert {name: forked["status"][name] for name in names} == {name: alone["status"][name] for name in names}
    assert (forked["oom"], forked["status"]["NoNewPrivs"].strip()) == (321, "1")


@pytest.mark.parametrize(
    "before",
    [
        ("unshare", "--mount", "--"),
        ("unshare", "--uts", "--"),
        ("setpriv", "--reuid=65534", "--clear-groups", "--"),
        ("setpriv", "--inh-caps=-all,+net_raw", "--"),
    ],
    ids=("mounts", "host-name", "user", "capabilities"),
)
def test_a_shim_that_differs_in_what_cannot_be_taken_over_is_the_service_itself(server, before):
    shim = server.shim("4", before=before)
    assert told(shim)["pid"] == shim.pid
    assert shim.stderr.read().startswith("Not forked (")
    assert shim.wait(PATIENCE) == 4


def test_root_keeps_no_capability_that_its_shim_has_not(server):
    shim = server.shim("0", before=("setpriv", "--bounding-set=-mknod", "--"))
    assert not int(told(shim)["status"]["CapPrm"], 16) >> 27 & 1


def test_it_has_the_memory_limit_and_the_namespaces_that_its_command_names(server, tmp_path):
    """As the consoles' proxies have, and services of a further host."""
    files = {kind: tmp_path / kind for kind in ("net", "mnt")}
    for file in files.values():
        file.touch()
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-private", tmp_path], check=True)
        subprocess.run(["unshare", f"--net={files['net']}", f"--mount={files['mnt']}", "true"], check=True)
        host = ("/usr/bin/nsenter", f"--net={files['net']}", f"--mount={files['mnt']}", "--")
        shim = server.shim("0", within=(*host, *AS_NOBODY, "/usr/bin/prlimit", "--data=900000000"))
        seen = told(shim)
        assert seen["pid"] != shim.pid
        assert seen["limits"]["RLIMIT_DATA"] == [900000000] * 2
        assert seen["who"] == [NOBODY] * 6
        wanted = [f"{kind}:[{file.stat().st_ino}]" for kind, file in files.items()]
        assert [seen["namespaces"][kind] for kind in files] == wanted
    finally:
        subprocess.run(["umount", *files.values(), tmp_path], check=False)


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
    shim, pid = server.service(within=AS_NOBODY)
    shim.kill()
    shim.wait()
    assert wait_for(lambda: processes.look(pid) is None, PATIENCE, 0.02)


def test_it_counts_to_its_shim_and_not_to_the_server(server):
    shim, pid = server.service()
    everything = processes.snapshot()
    assert processes.tree(shim.pid, everything) == {shim.pid, pid}
    assert pid not in processes.tree(server.process.pid, everything)
    listing = subprocess.run(processes.LISTING, capture_output=True, text=True, check=True).stdout.splitlines()
    worked = [re.sub(rf"^( *{pid} +\d+ +)\d+", r"\g<1>100000", line) for line in listing]
    assert worked != listing
    assert processes.processor_seconds(shim.pid, worked) >= 100000
    assert processes.processor_seconds(server.process.pid, worked) < 100000
    assert set(processes.marked(processes.SERVICE_MARK, "the-service")) >= {shim.pid, pid}
    assert pid not in processes.marked(processes.SERVICE_MARK, "the-server")


def test_services_outlive_the_server_and_the_next_forks_again(server):
    shim, pid = server.service()
    server.kill()
    alone = server.shim("3")  # nobody answers: it is the service itself
    assert told(alone)["pid"] == alone.pid
    assert alone.stderr.read().startswith("Not forked (")
    assert alone.wait(PATIENCE) == 3
    server.start()
    assert is_forked(server)
    assert processes.look(pid) is not None
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(PATIENCE) == 0  # only the server that is gone could say with what; it was asked to end
    assert processes.look(pid) is None


def test_one_that_ends_by_itself_when_nobody_can_tell_how_has_failed(server):
    shim, pid = server.service()
    server.kill()
    os.kill(pid, signal.SIGKILL)
    assert shim.wait(PATIENCE) == 1


def test_a_killed_family_takes_the_server_with_it_so_that_all_begin_anew(server):
    shim, pid = server.service()
    os.kill(server.family(), signal.SIGKILL)
    assert server.process.wait(PATIENCE) == 1
    assert processes.look(pid) is not None
    assert shim.poll() is None


def test_nobody_but_root_may_ask(server):
    server.directory.chmod(0o777)
    assert Path(server.socket).stat().st_mode & 0o777 == 0o600
    Path(server.socket).chmod(0o666)  # as if somebody had
    stranger = server.shim("0", before=("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"))
    assert told(stranger)["pid"] == stranger.pid
    mapped = server.shim(
        "0", before=("setpriv", f"--reuid={NOBODY}", "--clear-groups", "unshare", "--user", "-r", "--")
    )
    line = mapped.stdout.readline()
    assert not line or json.loads(line)["pid"] == mapped.pid


@pytest.mark.parametrize(
    "words",
    [("run.sock", "/bin/true"), ("/run.sock", "true"), ("/run.sock",), (), ("/run.sock", "x /bin/true")],
    ids=("socket", "command", "none", "nothing", "spaces"),
)
def test_a_shim_takes_absolute_paths_only(tmp_path, words):
    """Else it would run, as root, what somebody has put into its directory."""
    program = tmp_path / "true"
    program.write_text("#!/bin/sh\ntouch it-ran\n")
    program.chmod(0o755)
    shim = Path(payload.__file__).with_name("fork_shim.py")
    done = subprocess.run([PYTHON, "-I", "-S", shim, *words], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"absolute" in done.stderr
    assert not (tmp_path / "it-ran").exists()


def test_nonsense_makes_no_service_and_harms_no_other(server):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.connect(server.socket)
        stranger.send(b"nonsense")
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(PATIENCE)
        assert len(stranger.recv(64)) == 4  # the status of a process that failed
    assert is_forked(server)


def test_who_says_nothing_is_given_up(server):
    assert is_forked(server)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.connect(server.socket)
        slow.send((1 << 17).to_bytes(4, sys.byteorder))
        slow.settimeout(PATIENCE)
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE:  # one byte after the other, each in time
            if select.select([slow], [], [], 0.5)[0]:
                break
            slow.send(b"x")
        assert int.from_bytes(slow.recv(4), sys.byteorder) == signal.SIGALRM


def test_a_tracer_that_holds_an_ended_service_blocks_no_other(server):
    """The kernel shows it to nobody else meanwhile."""
    shim, pid = server.service(within=AS_NOBODY)
    libc = ctypes.CDLL(None, use_errno=True)
    tracing, release = (os.pipe() for _ in range(2))
    tracer = os.fork()
    if tracer == 0:
        libc.ptrace(PTRACE_ATTACH, pid, 0, 0)
        os.waitpid(pid, 0)
        libc.ptrace(PTRACE_CONT, pid, 0, 0)
        os.write(tracing[1], b"x")
        os.read(release[0], 1)
        os._exit(0)
    try:
        os.read(tracing[0], 1)
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, PATIENCE, 0.02)
        assert is_forked(server)
        os.write(release[1], b"x")
        assert shim.wait(PATIENCE) == -signal.SIGKILL  # it is told of when the tracer has let it go
    finally:
        os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)
        for descriptor in (*tracing, *release):
            os.close(descriptor)


def test_a_family_goes_on_when_it_had_no_descriptors_left(server):
    assert is_forked(server)
    family = server.family()
    soft, hard = psutil.Process(family).rlimit(psutil.RLIMIT_NOFILE)
    psutil.Process(family).rlimit(psutil.RLIMIT_NOFILE, (3, hard))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(server.socket)
        asking.settimeout(1)
        with pytest.raises(TimeoutError):
            asking.recv(1)
    assert processes.look(family) is not None
    psutil.Process(family).rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    assert is_forked(server)


def test_the_mark_is_shown_however_long_the_environment_is(server):
    environment = {"PATH": os.environ["PATH"], "A": "x" * 9000, processes.SERVICE_MARK: "the-service"}
    shim, pid = server.service(env=environment)
    assert processes.mark(pid, processes.SERVICE_MARK) == "the-service"
    assert shim.poll() is None


@pytest.mark.parametrize(
    "program",
    [
        (PYTHON, "-c", "import os, json; print(json.dumps({'pid': os.getpid()}))"),
        (PYTHON, "-u", "PROGRAM", "0"),
        (PYTHON, "-W", "ignore", "PROGRAM", "0"),
        ("/bin/echo", '{"pid": 0}'),
    ],
    ids=("code", "unbuffered", "warnings", "no-python"),
)
def test_what_would_not_run_as_by_itself_is_not_forked(server, program):
    command = [server.program if word == "PROGRAM" else word for word in program]
    shim = server.shim(*command)
    assert told(shim)["pid"] in {0, shim.pid}
    assert shim.wait(PATIENCE) == 0


def test_a_module_is_run_as_python_does(server):
    shim = server.shim(PYTHON, "-m", "program", "0", cwd=server.directory)
    seen = told(shim)
    assert seen["pid"] != shim.pid
    assert (seen["name"], seen["arguments"]) == ("__main__", [server.program, "0"])


def test_it_has_its_own_time_zone_and_key(server):
    """Both are read once in a process, which was another one then."""
    zone = {"PATH": os.environ["PATH"], "TZ": "XYZ-3"}
    first, second = (told(server.shim("0", env=zone)) for _ in range(2))
    assert first["zone"] == "XYZ"
    assert "key" not in first or first["key"] != second["key"]


def test_while_it_loads_shims_wait_and_then_a_stuck_server_costs_seconds(server):
    assert is_forked(server)
    assert Path(f"{server.socket}.loaded").exists()
    shim = runpy.run_path(str(server.directory / "fork_shim.py"))
    assert shim["ANSWERING"] + shim["TELLING"] < shim["LOADING"] < 90
    family = server.family()
    os.kill(family, signal.SIGSTOP)
    try:
        alone = server.shim("3")
        assert told(alone)["pid"] == alone.pid
    finally:
        os.kill(family, signal.SIGCONT)
    assert is_forked(server)


MOUNTS = [
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
    "39 31 0:36 /docker/x /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids",
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd",
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate",
]


@pytest.mark.parametrize(
    ("controllers", "path", "mounts", "found"),
    [
        ("", "/system.slice/x", MOUNTS, "/sys/fs/cgroup/unified/system.slice/x"),
        ("", "/x", ["35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"], "/sys/fs/cgroup/x"),
        ("cpuacct,cpu", "/", MOUNTS, "/sys/fs/cgroup/cpu,cpuacct"),
        ("name=systemd", "/a", MOUNTS, "/sys/fs/cgroup/systemd/a"),
        ("pids", "/docker/x/y", MOUNTS, "/sys/fs/cgroup/pids/y"),
    ],
    ids=("hybrid", "unified", "two", "named", "part"),
)
def test_a_control_group_is_where_its_hierarchy_is_mounted(functions, controllers, path, mounts, found):
    assert functions["control_group"](controllers, path, mounts) == Path(found)


@pytest.mark.parametrize(("controllers", "path"), [("pids", "/docker/z"), ("memory", "/")], ids=("part", "none"))
def test_a_control_group_that_cannot_be_seen_is_not_guessed(functions, controllers, path):
    with pytest.raises(FileNotFoundError):
        functions["control_group"](controllers, path, MOUNTS)


@pytest.mark.parametrize(
    "words",
    [
        ["/usr/bin/setpriv", "--reuid=1", "--ambient-caps=+all", "--", "/x"],
        ["/usr/bin/nsenter", "--pid=/proc/1/ns/pid", "--", "/x"],
        ["/usr/bin/prlimit", "--nofile=1", "/x"],
        ["/usr/bin/setpriv", "--reuid=1", "--reuid=0", "--", "/x"],
    ],
    ids=("capabilities", "namespace", "limit", "twice"),
)
def test_what_is_not_understood_is_left_to_the_programs_themselves(functions, words):
    with pytest.raises(ValueError, match="is not for a fork server"):
        functions["unwrapped"](words)


@pytest.mark.parametrize(
    "options",
    [{"reuid": "1", "regid": "1"}, {"regid": "1"}, {"groups": "1"}],
    ids=("no-groups", "no-user", "groups-alone"),
)
def test_who_a_service_is_must_be_said_in_full(functions, options):
    with pytest.raises(ValueError, match="groups"):
        functions["understood"](options)


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


@pytest.fixture
def family(functions, tmp_path):
    """The process of a family, without processes; and a way to come to it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "sock"))
    listener.listen(128)

    def come():
        plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plug.settimeout(PATIENCE)
        plug.connect(str(tmp_path / "sock"))
        return plug

    with listener:
        yield functions["Family"](listener), come


def rests(family):
    return family._rest_until > time.monotonic()


def test_without_processes_to_fork_the_family_rests_and_whoever_came_is_let_go(family, monkeypatch):
    made, come = family

    def fork():
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    with come() as plug:
        assert made._accept() is None
        assert plug.recv(1) == b""
    assert rests(made)


def test_only_so_many_may_become_services_at_once(family, functions, monkeypatch):
    made, come = family
    pids = iter(range(1, 1000))
    monkeypatch.setattr(os, "fork", lambda: next(pids))
    plugs = [come() for _ in range(functions["MOST_AT_ONCE"] + 1)]
    for _ in plugs[1:]:
        assert made._accept() is None
        assert not rests(made)
    assert made._accept() is None
    assert rests(made)
    for plug in plugs:
        plug.close()
