# SPDX-License-Identifier: Apache-2.0
"""A node's own run: one after the other, and what went wrong is told in its lines."""

from __future__ import annotations

import os
import threading

import pytest

from dockstack.deploy.join import commission, here
from dockstack.deploy.run.events import Kind, parse
from dockstack.deploy.run.lock import exclusive

pytestmark = pytest.mark.unit


def test_tasks_wait_for_each_other_by_the_nodes_name(cloud, compute):
    work = here.work(commission.commission(compute(name="node7"), cloud, "10.1.0.31"))
    known = {task.key for task in work}
    assert "node7/compute" in known
    assert all(task.after <= known for task in work)


def test_a_run_that_is_still_at_work_is_waited_for_and_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(here, "POLL", 0.001)
    told, order, at_work = [], [], threading.Event()
    lock = tmp_path / "lock"

    def second():
        with here.queued(lambda event: (told.append(event), at_work.set()), lock):
            order.append("second")

    with exclusive("node add", lock):
        thread = threading.Thread(target=second)
        thread.start()
        assert at_work.wait(120)
        order.append("first")
    thread.join(120)
    assert order == ["first", "second"]
    assert [event.kind for event in told] == [Kind.SAY]
    assert "is at work" in told[0].text


def test_a_machine_without_a_commission_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(here.apply, "end_leftovers", lambda: None)
    monkeypatch.setenv(here.processes.RUN_MARK, "")
    assert here.main(tmp_path / "none", tmp_path / "lock") == 1
    failed, ended = [parse(line) for line in capsys.readouterr().out.splitlines()]
    assert "does not say" in failed.text
    assert (ended.kind, ended.ok) == (Kind.END, False)


def test_what_was_told_is_carried_out_here_with_its_secrets_to_redact(cloud, compute, tmp_path, monkeypatch):
    done = []
    (tmp_path / "commission.json").write_text(
        commission.commission(compute("docker.own=true"), cloud, "10.1.0.31").text()
    )
    monkeypatch.setattr(here.apply, "end_leftovers", lambda: None)
    monkeypatch.setattr(here.paths, "SAVED_OPTIONS", str(tmp_path / "saved.yaml"))
    monkeypatch.setattr(here.apply, "carry_out", lambda *given: done.append(given) or 0)
    monkeypatch.setenv(here.processes.RUN_MARK, "")
    assert here.main(tmp_path / "commission.json", tmp_path / "lock") == 0
    ((node, work, secrets),) = done
    assert (node.name, node.connector, len(work)) == ("one", "@local", 18)
    assert secrets.redact("amqp with bus-pw and placement-pw") == "amqp with bus-pw and ********"  # the first is short
    assert os.environ[here.processes.RUN_MARK] == str(os.getpid()), "a later run finds what a killed one has started"
    assert (tmp_path / "saved.yaml").read_text() == "docker.own: true\n", "`dockstack down` there finds its engine"
