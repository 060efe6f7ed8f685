# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from dockstack.chaos import diary

pytestmark = pytest.mark.unit


def write(lines, nonce="Zm9v"):
    text, checksum = f"0 {nonce}\n", nonce
    for number in range(1, lines):
        checksum = diary.follow(checksum, number)
        text += f"{number} {checksum}\n"
    return text


def test_a_whole_log_tells_how_far_it_goes():
    page = diary.read(write(4))
    assert (page.first, page.number) == ("0 Zm9v", 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (write(3)[:-5], "half there"),
        (write(5).replace("2 ", "9 ", 1), "line 2"),
        ("".join(line for line in write(6).splitlines(keepends=True) if not line.startswith("3 ")), "line 3"),
        (write(3) + write(3), "line 3"),
    ],
    ids=["empty", "half", "damaged", "missing", "begun-twice"],
)
def test_a_torn_log_is_told(text, why):
    with pytest.raises(diary.Torn, match=why):
        diary.read(text)


def test_lines_that_were_seen_must_be_there_for_ever():
    seen = diary.read(write(9))
    assert diary.compare(seen, write(12)).number == 11
    with pytest.raises(diary.Torn, match="ends at line 4, and line 8 had been written"):
        diary.compare(seen, write(5))
    with pytest.raises(diary.Torn, match="another log"):
        diary.compare(seen, write(20, "YmFy"))


def test_nova_takes_the_command_as_a_value_of_metadata():
    assert all(len(value) <= 255 for value in diary.METADATA.values())


def test_what_the_server_runs_writes_such_a_log_and_goes_on_where_it_ended(tmp_path):
    """The very command, with another path and another first process."""
    path = tmp_path / "log"
    _, option, script = json.loads(diary.METADATA["docker_command"])
    script = (
        script.replace(diary.PATH, str(path))
        .replace("exec /sbin/init", "exec sleep 60")
        .replace("sleep 1", "sleep 0.05")
    )
    pages = []
    for _ in range(2):
        begun = path.read_text().count("\n") if path.exists() else 0
        with subprocess.Popen([shutil.which("sh"), option, script], start_new_session=True) as server:
            deadline = time.monotonic() + 60
            while (not path.exists() or path.read_text().count("\n") < begun + 4) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.killpg(
                server.pid, signal.SIGKILL
            )  # never kill(1): procps 4.0.2 takes a group's number for -1, everybody
        pages.append(diary.compare(pages[-1] if pages else None, path.read_text()))
    assert pages[1].number >= pages[0].number + 4
