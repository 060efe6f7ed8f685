# SPDX-License-Identifier: Apache-2.0
"""What a build of a system image leaves when it is killed or fails: nothing that runs, nothing that is mounted.

Real packages install themselves in the nightly layer (tests/machines); here a script of the test's own stands for them.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from private_engine import wait_for

from dockstack.deploy.system_image import builder
from dockstack.errors import DockstackError

BUILD = """
import sys
from pathlib import Path
from dockstack.deploy.system_image import builder
builder._SCRIPT = Path(sys.argv[1])
with builder._alone(Path(sys.argv[2])) as lock:
    builder._assemble(Path(sys.argv[2]), [], lock, lambda *what: print(*what, flush=True), 1)
"""
# Packages' scripts start processes that care for nobody, and ignore what they are sent.
STUBBORN = """
mount -t tmpfs tmpfs "$1/root"
setsid sh -c 'trap "" TERM INT HUP; sleep 1000 & wait; sleep 1000' &
echo 'processing: install: ready'
sleep 1000
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path


def script(place: Path, text: str) -> Path:
    path = place / "script"
    path.write_text(text)
    return path


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_killed_build_leaves_no_process_and_no_mount(place):
    command = [sys.executable, "-c", BUILD, script(place, STUBBORN), place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "Installing packages 1 1\n"
        assert not is_free(place / "lock")
        with pytest.raises(DockstackError, match="Another build"), builder._alone(place):
            pass
        process.send_signal(signal.SIGKILL)
    # Each process of the build has the lock: when it is free, there is none.
    wait_for(lambda: is_free(place / "lock"), "the end of all that the build has started", timeout=60)
    assert str(place) not in Path("/proc/mounts").read_text()
    (place / "root").rmdir()  # nothing is in there, and nothing is mounted


def test_a_build_that_fails_shows_the_last_lines(place, monkeypatch):
    monkeypatch.setattr(builder, "_SCRIPT", script(place, "echo 'dpkg: error: no room' >&2\nexit 1\n"))
    with builder._alone(place) as lock, pytest.raises(DockstackError, match="do not install") as caught:
        builder._assemble(place, [], lock, lambda *_: None, 1)
    assert "dpkg: error: no room" in caught.value.details


def test_packages_scripts_have_no_network(place, monkeypatch):
    monkeypatch.setattr(builder, "_SCRIPT", script(place, "cat /proc/self/net/dev >&2\nexit 1\n"))
    with builder._alone(place) as lock, pytest.raises(DockstackError) as caught:
        builder._assemble(place, [], lock, lambda *_: None, 1)
    devices = [line.split(":")[0].strip() for line in caught.value.details.splitlines() if ":" in line]
    assert devices == ["lo"]
