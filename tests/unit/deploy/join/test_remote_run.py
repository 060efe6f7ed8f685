# SPDX-License-Identifier: Apache-2.0
"""A run on a node, over SSH to a server of the test's own: handed over, started, read on, and broken off."""

from __future__ import annotations

import json
import os

import pytest

from dockstack.deploy.join import remote_run
from dockstack.deploy.join.commission import commission, read
from dockstack.deploy.join.remote_run import RemoteRun
from dockstack.deploy.node.connection import UnreachableError, connect
from dockstack.deploy.run.events import Event, Kind
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
# In the place of Python: what it does with "-m MODULE RUN" is the test's.
PYTHON = """\
#!/bin/sh
run=$3
{body}
"""
SAYS = Event(Kind.SAY, "one/switch", text="Starting ovsdb").line()
ENDS = Event(Kind.END, changes=3).line()
UNTIL_LET_GO = "while ! test -e {root}/go; do sleep 0.02; done"


@pytest.fixture
def run(connected, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_run, "POLL", 0.02)

    def build(*lines):
        python = tmp_path / "python"
        python.write_text(PYTHON.format(body="\n".join(lines).replace("{root}", str(tmp_path))))
        python.chmod(0o755)
        return RemoteRun(connected, str(python), f"{tmp_path}/etc/commission.json", f"{tmp_path}/runs")

    return build


def says(line):
    return f"printf '%s\\n' '{line}'"


def test_the_commission_arrives_whole_and_for_root_only(run, cloud, compute, tmp_path, server):
    told = commission(compute(), cloud, "10.1.0.31")
    run().hand_over(told)
    path = tmp_path / "etc" / "commission.json"
    assert read(path) == read_back(told)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert "bus-pw" in path.read_text()
    assert "bus-pw" not in "\n".join(server.commands), "arguments can be read by others"


def read_back(told):
    return type(told)(**json.loads(told.text()))


def test_what_the_run_tells_is_told_and_its_end_returned(run):
    told = []
    one = run(says(SAYS), "echo a library warns", says(ENDS))
    ended = one.follow(one.start(), told.append)
    assert [event.text for event in told] == ["Starting ovsdb"]
    assert (ended.kind, ended.ok, ended.changes) == (Kind.END, True, 3)


def test_it_is_told_while_it_happens(run, tmp_path):
    one = run(says(SAYS), UNTIL_LET_GO, says(ENDS))
    assert one.follow(one.start(), lambda _: (tmp_path / "go").touch()).ok


def test_half_a_line_is_waited_for(run, tmp_path):
    half, rest = SAYS[:20], SAYS[20:]
    one = run(f"printf '%s' '{half}'", "sleep 0.2", f"printf '%s\\n' '{rest}'", says(ENDS))
    told = []
    one.follow(one.start(), told.append)
    assert [event.text for event in told] == ["Starting ovsdb"]


def test_a_run_that_is_killed_is_said_with_its_last_words(run):
    one = run("echo MemoryError >&2", "kill -9 $$")
    with pytest.raises(DockstackError, match="ended before its end") as refused:
        one.follow(one.start(), lambda _: None)
    assert "MemoryError" in refused.value.details


def test_a_broken_connection_leaves_a_run_that_goes_on(run, server, connected, tmp_path):
    one = run(UNTIL_LET_GO, says(ENDS))
    pid = one.start()
    server.hang_up()
    with pytest.raises(UnreachableError):
        one.follow(pid, lambda _: None)
    (tmp_path / "go").touch()
    one.connection = connect(connected.node)
    assert one.follow(pid, lambda _: None).ok


def test_the_run_is_in_a_session_of_its_own(run, tmp_path):
    one = run(says(SAYS), UNTIL_LET_GO, says(ENDS))
    pid = one.start()
    sessions = []

    def told(_):
        sessions.append(os.getsid(pid))
        (tmp_path / "go").touch()

    assert one.follow(pid, told).ok
    assert sessions == [pid]
