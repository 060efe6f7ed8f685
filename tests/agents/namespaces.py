# SPDX-License-Identifier: Apache-2.0
"""Machines of the tests' own, as namespaces: a network, mounts, processes and a name; nothing of them outlives one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

OWN = "/etc/neutron /etc/openvswitch /etc/sudoers.d /run/openvswitch /run/netns /var/lib/neutron /opt/dockstack/libexec"
INIT = (
    "set -e; mount --make-rprivate /; hostname {name}; ip link set lo up;"
    " for each in {own}; do mkdir -p $each; mount -t tmpfs -o mode=755 tmpfs $each; done;"
    " mount --make-shared /run/netns;"
    " chown neutron:neutron /var/lib/neutron; echo ready; exec sleep infinity"
)


class Machine:
    """A machine: its first process, and those that were started in it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        flags = ["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = INIT.format(name=name, own=OWN)
        self._outside = subprocess.Popen(["unshare", *flags, "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self._outside.stdout
        assert self._outside.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self._outside.pid}/task/{self._outside.pid}/children").read_text()
        self.pid = int(children.split()[0])
        self._started: list[subprocess.Popen[str]] = []

    def inside(self, *command: str) -> list[str]:
        """Return a command as it runs in here."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-u", "-p", "--", *command]

    def run(self, *command: str, check: bool = True, stdin: str = "") -> str:
        """Run a command to its end and return what it printed."""
        line = self.inside(*command)
        done = subprocess.run(line, input=stdin, capture_output=True, text=True, check=False, timeout=300)
        assert not check or done.returncode == 0, f"{self.name}: {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        """Run a command and tell how it ended."""
        return subprocess.run(self.inside(*command), capture_output=True, check=False, timeout=300).returncode == 0

    def start(self, label: str, *command: str, environment: dict[str, str] | None = None, talk: bool = False):
        """Start a process that stays; what it prints is in its log, or with ``talk`` is read by the caller."""
        log = (self.directory / f"{label}.log").open("w")
        pipe = subprocess.PIPE if talk else log
        started = subprocess.Popen(
            self.inside(*command),
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=pipe,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._started.append(started)
        return started

    def give(self, device: str, other: Machine) -> None:
        """Move a link to another machine, whose processes this one does not see."""
        line = ["nsenter", "-t", str(self.pid), "-n", "--", "ip", "link", "set", device, "netns", str(other.pid)]
        subprocess.run(line, check=True, capture_output=True, timeout=300)

    def log(self, label: str) -> str:
        """Return what a process printed so far."""
        return (self.directory / f"{label}.log").read_text()

    def end(self) -> None:
        """End all processes: the kernel does, when the first one goes."""
        os.kill(self.pid, signal.SIGKILL)
        for process in (*self._started, self._outside):
            process.wait(timeout=60)


def wait_for(condition, what: str, seconds: float = 600) -> None:
    """Wait until something is so; the machine of the tests may be busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(1)
