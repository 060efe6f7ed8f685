# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dockstack.deploy.run.lock import BusyError, exclusive

pytestmark = pytest.mark.unit

HOLDER = """
import sys, time
from dockstack.deploy.run.lock import exclusive
with exclusive("up", sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_the_second_says_who_is_at_work(holder):
    path, process = holder
    with pytest.raises(BusyError) as busy, exclusive("up", path):
        pass
    assert f"`dockstack up` (pid {process.pid})" in busy.value.brief
    assert "since" in busy.value.brief


def test_kill_9_frees_it(holder):
    path, process = holder
    process.kill()
    process.wait()
    with exclusive("up", path):
        assert f'"pid": {os.getpid()}' in path.read_text()


def test_it_is_free_afterwards(tmp_path):
    for _ in range(2):
        with exclusive("up", tmp_path / "lock"):
            pass
