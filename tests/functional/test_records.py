# SPDX-License-Identifier: Apache-2.0
"""What Nova says of servers that it does not have on a host: have they left it for good?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from nova import exception, objects

from dockstack.compute.nova_api import records

pytestmark = pytest.mark.functional
objects.register_all()
UUID = "1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"


@pytest.fixture
def nova(monkeypatch):
    """Let Nova know one server as a test says, with its moves that are under way."""

    def knows(moves=(), **values):
        said = {"deleted": False, "host": "there", "task_state": None, "vm_state": "active"} | values
        monkeypatch.setattr(objects.Instance, "get_by_uuid", lambda *_, **__: SimpleNamespace(**said))
        monkeypatch.setattr(objects.MigrationList, "get_by_filters", lambda _, filters: find(moves, filters))

    return knows


def find(moves, filters):
    assert filters["instance_uuid"] == UUID
    return [
        SimpleNamespace(source_compute=source, dest_compute=destination)
        for source, destination, status in moves
        if status in filters["status"]
    ]


@pytest.mark.parametrize("host", ["there", None])
def test_one_that_moved_away_is_read_as_none_of_this_hosts(nova, host):
    nova(host=host)
    assert records.read_record("here", UUID) is None


@pytest.mark.parametrize(
    ("state", "should_run"),
    [
        ({}, True),
        ({"vm_state": "stopped"}, False),
        ({"task_state": "powering-off"}, False),
        ({"power_state": 4}, False),
    ],
)
def test_one_of_this_host_is_read_as_nova_has_it_now(nova, state, should_run):
    nova(**{"uuid": UUID, "host": "here", "power_state": 1} | state)
    assert records.read_record("here", UUID).should_run is should_run


@pytest.mark.parametrize(
    ("task", "should_run"),
    [
        *((None, True), ("image_snapshot", True), ("image_snapshot_pending", True), ("image_pending_upload", True)),
        *(("image_uploading", True), ("powering-off", False), ("deleting", False), ("rebuilding", False)),
    ],
)
def test_a_snapshot_that_was_broken_off_keeps_none_off_when_nova_compute_starts(nova, task, should_run):
    nova(uuid=UUID, host="here", power_state=1, task_state=task)
    record = records.read_record("here", UUID)
    assert record.should_run_at_start is should_run
    assert record.should_run is (task is None), "a snapshot that goes on leaves it to whoever takes it"


def test_one_that_nova_deleted_has_left(nova):
    nova(deleted=True, host="here")
    assert records.has_left("here", UUID) is True


def test_one_that_lives_on_another_host_has_left(nova):
    nova()
    assert records.has_left("here", UUID) is True


@pytest.mark.parametrize("status", ["done", "confirmed", "completed", "failed"])
def test_a_move_that_is_over_keeps_nothing(nova, status):
    nova(moves=[("here", "there", status)])
    assert records.has_left("here", UUID) is True


@pytest.mark.parametrize("status", ["accepted", "pre-migrating", "migrating", "finished", "reverting", "running"])
@pytest.mark.parametrize("way", [("here", "there"), ("there", "here")])
def test_a_move_under_way_keeps_both_ends(nova, way, status):
    nova(moves=[(*way, status)])
    assert records.has_left("here", UUID) is False


def test_a_move_between_others_is_none_of_ours(nova):
    nova(moves=[("there", "elsewhere", "migrating")])
    assert records.has_left("here", UUID) is True


@pytest.mark.parametrize(
    "state", [{"vm_state": "resized"}, {"task_state": "rebuilding"}, {"host": None}, {"host": "here"}]
)
def test_one_that_may_need_what_is_here_has_not_left(nova, state):
    nova(**state)
    assert records.has_left("here", UUID) is False


def test_one_that_nova_does_not_know_is_not_judged(monkeypatch):
    def refuse(*_, **__):
        raise exception.InstanceNotFound(instance_id=UUID)

    monkeypatch.setattr(objects.Instance, "get_by_uuid", refuse)
    assert records.has_left("here", UUID) is None
    assert records.read_record("here", UUID) is None
