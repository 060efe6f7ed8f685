# SPDX-License-Identifier: Apache-2.0
"""Which process has a volume open, by real ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dockstack.compute.privileged import storage_daemon

pytestmark = pytest.mark.unit

_CAP_SYS_RESOURCE = 24  # capability.h


@pytest.fixture
def process(tmp_path):
    """Begin something as a volume's process is, which does not say whose it is."""
    note, code = tmp_path / storage_daemon._PROCESS, "echo; exec sleep 600"
    line = ["sh", "-c", storage_daemon._SHELL, "sh", str(note), "", "sh", "-c", code]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as started:
        started.stdout.readline()
        yield started
        started.kill()


def test_a_process_is_known_by_its_start_whatever_its_command_line_says(tmp_path, process):
    assert str(tmp_path) not in Path(f"/proc/{process.pid}/cmdline").read_text()
    assert storage_daemon._find_process(tmp_path) == process.pid


def test_one_that_has_ended_is_not(tmp_path, process):
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie, of the same start
    assert storage_daemon._find_process(tmp_path) is None
    process.wait()
    assert storage_daemon._find_process(tmp_path) is None


def test_another_one_with_its_number_is_not(tmp_path, process):
    note = tmp_path / storage_daemon._PROCESS
    before, _, start = note.read_text().rpartition(")")
    fields = start.split()
    fields[19] = str(int(fields[19]) - 1)
    note.write_text(f"{before}) {' '.join(fields)}")
    assert storage_daemon._find_process(tmp_path) is None
    assert process.poll() is None


@pytest.mark.parametrize("text", ["", "12 (sh", "7"])
def test_half_a_note_is_none(tmp_path, text):
    (tmp_path / storage_daemon._PROCESS).write_text(text)
    assert storage_daemon._find_process(tmp_path) is None


def test_it_is_among_the_last_that_short_memory_ends(process):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if not int(status["CapEff"], 16) & 1 << _CAP_SYS_RESOURCE:
        pytest.skip("this process may not lower it")
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "-900\n"
