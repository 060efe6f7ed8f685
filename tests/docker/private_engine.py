# SPDX-License-Identifier: Apache-2.0
"""A Docker engine of the tests' own, which they may kill: its own containerd, sockets, roots and runtime wrapper.

Everything lives below one directory that its owner keeps locked, so that the leftovers of a killed run are found and
removed by the next one, while a run that still goes on is left alone.

The engine is the machine's, or one of another Debian, whose ``/usr`` only its daemons see.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from dockstack.compute.containers import runtime
from dockstack.compute.engine import Engine
from dockstack.errors import DockstackError

PARENT = Path("/tmp/dockstack-test-engine")
NAMESPACES = Path("/run/netns")
ENGINE_ROOT = os.environ.get("DOCKSTACK_ENGINE_ROOT", "")  # what engine_root.py made; "" is the machine itself
# Mounts that the machine makes are seen, this one is nobody else's.
ENTER_ENGINE_ROOT = (
    *("unshare", "--mount", "--propagation=unchanged"),
    *("sh", "-c", 'mount --make-slave / && mount --bind "$0/usr" /usr && exec "$@"', ENGINE_ROOT),
)
UUID_PREFIX = (
    "d0c57e57-0000-4000-8000-"  # server uuids of tests: nothing else has them, so leftovers are safe to remove
)


def wait_for(condition, what: str, timeout: float = 120):
    """Poll until ``condition`` returns something true; the time is what a machine with other work may need."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(0.02)


class PrivateEngine:
    """One engine.

    Args:
        name: tells engines of one run apart.
        disk: its disk's size as tmpfs takes it, for example "32m"; the machine's own disk if None.
        btrfs: keep its data on a btrfs of this size in a file, for example "1G", which can hold servers to their disks.
        reserved: that file is written out in full, as the one that `up` makes.
        image_store: containerd keeps its images (from Docker 24 on).
    """

    def __init__(
        self,
        name: str = "main",
        disk: str | None = None,
        btrfs: str | None = None,
        *,
        reserved: bool = False,
        image_store: bool = False,
    ) -> None:
        self.directory = PARENT / f"{os.getpid()}-{name}"
        self._disk = disk
        self._btrfs = btrfs
        self._reserved = reserved
        self._image_store = image_store
        self.socket = self.directory / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.patches = self.directory / "patches"
        self.runtime_directory = self.directory / "runtime"
        self.containerd_socket = self.directory / "containerd.sock"
        self._dockerd: subprocess.Popen | None = None
        self._containerd: subprocess.Popen | None = None

    def install(self) -> None:
        self.directory.mkdir(parents=True)
        self._lock = (self.directory / "owner").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.patches.mkdir(mode=0o700)
        data = self.directory / "data"
        data.mkdir()
        if ENGINE_ROOT:  # its daemons each have mounts of their own, and these in common
            subprocess.run(["mount", "--bind", self.directory, self.directory], check=True)
            subprocess.run(["mount", "--make-private", self.directory], check=True)
            subprocess.run(["mount", "--make-shared", self.directory], check=True)
        if self._disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self._disk}", "tmpfs", data], check=True)
        if self._btrfs:
            image = self.directory / "data.img"
            allocate = ["fallocate", "--length"] if self._reserved else ["truncate", "--size"]
            subprocess.run([*allocate, self._btrfs, image], check=True)
            subprocess.run(["mkfs.btrfs", "--quiet", "--nodiscard", image], check=True)
            subprocess.run(["mount", "-o", "loop,nodiscard", image, data], check=True)
        runtime.install(self.runtime_directory, self.patches)
        config = {
            "runtimes": {"dockstack": {"path": str(self.runtime_directory / runtime.RUNTIME)}},
            "live-restore": True,
            "data-root": str(data),
            "exec-root": str(self.directory / "exec"),
            "pidfile": str(self.directory / "dockerd.pid"),
            "hosts": [self.url],
            "containerd": str(self.containerd_socket),
            "bridge": "none",
            "iptables": False,
            **({"ip6tables": False, "features": {"containerd-snapshotter": self._image_store}} if ENGINE_ROOT else {}),
            "ip-forward": False,
            "log-level": "warn",
        }
        if self._btrfs:
            config["storage-driver"] = "btrfs"
        (self.directory / "daemon.json").write_text(json.dumps(config))

    def start(self) -> None:
        if self._containerd is None:
            self._containerd = self._spawn(
                "containerd",
                f"--root={self.directory}/containerd",
                f"--state={self.directory}/containerd-state",
                f"--address={self.containerd_socket}",
                "--log-level=warn",
            )
            wait_for(self.containerd_socket.exists, "containerd")
        if self._dockerd is None or self._dockerd.poll() is not None:  # else it was only slow to answer
            self._dockerd = self._spawn("dockerd", f"--config-file={self.directory}/daemon.json")
        wait_for(self.answers, "dockerd")

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen:
        log = (self.directory / f"{program}.log").open("a")
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        command = [*(ENTER_ENGINE_ROOT if ENGINE_ROOT else ()), program, *arguments]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._dockerd.pid

    def answers(self) -> bool:
        try:
            Engine(self.url, 5).ping()
        except DockstackError:
            return False
        return True

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End dockerd alone: shims and containers live on."""
        self._dockerd.send_signal(how)
        self._dockerd.wait(60)
        if how == signal.SIGKILL:  # what a supervisor's next start meets
            (self.directory / "dockerd.pid").unlink(missing_ok=True)

    def kill_whole(self) -> None:
        """End containerd, too, as it ends with an engine that runs one of its own."""
        self.kill()
        self._containerd.kill()
        self._containerd.wait(60)
        self._containerd = None
        self.containerd_socket.unlink()

    def freeze(self) -> None:
        self._dockerd.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._dockerd.send_signal(signal.SIGCONT)

    def clean(self) -> None:
        for process in (self._dockerd, self._containerd):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        remove_directory(self.directory)


def remove_leftovers() -> None:
    """Remove what killed runs left behind."""
    entries = list(PARENT.iterdir()) if PARENT.exists() else []
    left = [entry for entry in entries if not _owned(entry)]
    for entry in left:
        remove_directory(entry)
    if left == entries:
        remove_namespaces(UUID_PREFIX)


def uuid_prefix(owner: int | None = None) -> str:
    """Return what the uuids of one run's servers begin with, this run's if no other is named."""
    return f"{UUID_PREFIX}{(owner or os.getpid()) % 0xFFFFFF:06x}"


def remove_namespaces(prefix: str) -> None:
    """Remove the namespaces and devices of servers whose uuids begin so."""
    for path in NAMESPACES.glob(f"nova-{prefix}*"):
        subprocess.run(["umount", "--lazy", path], check=False, stderr=subprocess.DEVNULL)
        path.unlink(missing_ok=True)
    for alias in Path("/sys/class/net").glob("tap*/ifalias"):
        if _read(str(alias)).startswith(f"nova-{prefix}"):
            subprocess.run(["ip", "link", "delete", alias.parent.name], check=False)


def remove_directory(directory: Path) -> None:
    """End the daemons and shims that a directory belongs to, and what they run; unmount; delete."""
    wait_for(lambda: _is_removed(directory), f"removing {directory}")


def _is_removed(directory: Path) -> bool:
    """Try; what is about to end still makes and removes files, and processes that do."""
    _end_daemons(directory)
    if not _unmount(directory):
        return False
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _end_daemons(directory: Path) -> None:
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        command = _read(f"/proc/{pid}/cmdline").split("\0")
        ours = any(f"{directory}/" in word for word in command)
        if ours and Path(command[0]).name.startswith(("containerd", "dockerd")):
            for child in _read(f"/proc/{pid}/task/{pid}/children").split():
                _kill(int(child))
            _kill(pid)


def _unmount(directory: Path) -> bool:
    mounts = [line.split()[1] for line in _read("/proc/mounts").splitlines()]
    below = [mount for mount in mounts if f"{mount}/".startswith(f"{directory}/")]
    for mount in reversed(below):
        subprocess.run(["umount", "--lazy", mount], check=False, stderr=subprocess.DEVNULL)
    return not below


def _owned(directory: Path) -> bool:
    try:
        with (directory / "owner").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_for(lambda: _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] in ([], ["Z"]), f"end of {pid}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
