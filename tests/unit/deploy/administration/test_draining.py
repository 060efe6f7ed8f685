# SPDX-License-Identifier: Apache-2.0
"""Servers leave a host, each by the way that its state allows; who stays is named with the reason."""

from __future__ import annotations

import pytest

from dockstack.deploy.administration import draining
from dockstack.deploy.administration.draining import Draining, Resizes
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.fixture
def two(fake):
    fake.add_host("old")
    fake.add_host("other")
    return fake


@pytest.fixture
def drain(cloud, told):
    def run(resizes=Resizes.CONFIRM, reason="", patience=5.0):
        draining = Draining(cloud, 2, resizes, patience)
        draining.close("old", reason)
        return draining.drain("old", told.append)

    return run


def on(fake, host):
    return sorted(each["name"] for each in fake.servers.values() if each["host"] == host)


def test_running_and_stopped_servers_move_and_are_confirmed(two, drain, told):
    ids = [two.add_server(f"web{number}", "old") for number in range(4)]
    two.add_server("off", "old", "SHUTOFF")
    two.add_server("stays", "other")
    done = drain(reason="new disk")
    assert done.unmoved == ()
    assert done.moved[1:] == tuple(f"web{number} ({each})" for number, each in enumerate(ids))
    assert on(two, "old") == []
    assert two.services["old"]["status"] == "disabled"
    assert two.services["old"]["disabled_reason"] == "dockstack node drain: new disk"
    assert {each["status"] for each in two.servers.values()} == {"ACTIVE", "SHUTOFF"}
    assert two.moves == []
    assert told[-1] == "5 servers have moved"


def test_a_second_run_changes_nothing(two, drain):
    two.add_server("web", "old")
    drain(reason="first")
    asked = len(two.changes())
    assert drain(reason="second").moved == ()
    assert len(two.changes()) == asked, "a host that is disabled keeps its reason"


def test_a_killed_run_goes_on_where_it_was(two, drain):
    moved = two.add_server("moved", "other", "VERIFY_RESIZE")
    two.add_move(moved, "migration", "old", "other")
    moving = two.add_server("moving", "old", "RESIZE", task="resize_migrating")
    two.servers[moving]["next"] = [{"status": "VERIFY_RESIZE", "task": None, "host": "other"}]
    two.add_move(moving, "migration", "old", "other")
    assert len(drain().moved) == 2
    assert two.moves == []


@pytest.mark.parametrize(("resizes", "asked"), [("confirm", ["confirmResize"]), ("revert", ["revertResize"])])
def test_resizes_that_wait_are_settled_as_was_said(two, drain, monkeypatch, resizes, asked):
    came = two.add_server("came", "old", "VERIFY_RESIZE")
    two.add_move(came, "resize", "other", "old")
    acts = []
    monkeypatch.setattr(
        draining.hosts, "act", lambda cloud, server, action: acts.append(action) or real(cloud, server, action)
    )
    assert len(drain(Resizes(resizes)).moved) == 1
    assert acts[:1] == asked
    assert on(two, "old") == []


real = draining.hosts.act


def test_a_resize_is_left_to_its_user(two, drain):
    left = two.add_server("left", "other", "VERIFY_RESIZE")
    two.add_move(left, "resize", "old", "other")
    (unmoved,) = drain(Resizes.LEAVE).unmoved
    assert (unmoved.server, unmoved.why) == (f"left ({left})", "its resize waits for its user")


def test_a_resize_that_a_user_begins_elsewhere_meanwhile_is_the_users(two, drain):
    web = two.add_server("web", "old")
    confirm = two.do_confirmResize

    def and_resized(server_id, server):
        confirm(server_id, server)
        server["next"] = [{"status": "VERIFY_RESIZE", "host": "third"}]
        two.add_move(server_id, "resize", "other", "third")

    two.do_confirmResize = and_resized
    assert len(drain().moved) == 1
    assert [(each["instance_uuid"], each["dest_compute"]) for each in two.moves] == [(web, "third")]


def test_who_cannot_move_is_named_with_the_reason_and_the_others_move(two, drain):
    stuck = two.add_server("stuck", "old")
    two.unmovable.add(stuck)
    for status in ("ERROR", "PAUSED", "SUSPENDED", "RESCUE"):
        two.add_server(status.lower(), "old", status)
    two.add_server("web", "old")
    two.add_server("shelf", "old", "SHELVED")
    done = drain()
    assert [each.partition(" ")[0] for each in done.moved] == ["shelf", "web"]
    assert {each.server.partition(" ")[0]: each.why for each in done.unmoved} == {
        "stuck": "it did not move: No valid host was found.",
        "error": "it is in ERROR",
        "paused": "it is paused",
        "suspended": "it is suspended",
        "rescue": "it is being rescued",
    }
    assert all(each.cure for each in done.unmoved)


def test_one_that_is_busy_for_ever_is_given_up(two, drain):
    two.add_server("busy", "old", task="rebuilding")
    (unmoved,) = drain(patience=0.02).unmoved
    assert "still busy (rebuilding)" in unmoved.why


def test_one_that_somebody_deletes_meanwhile_is_no_failure(two, drain):
    two.servers[two.add_server("gone", "old", task="deleting")]["next"] = [{"status": "DELETED"}]
    assert drain().unmoved == ()


def test_undrain_enables_again_and_only_one_that_reports(two, cloud, drain):
    drain()
    assert draining.undrain(cloud, "old") is True
    assert two.services["old"]["status"] == "enabled"
    assert draining.undrain(cloud, "old") is False
    two.services["old"]["state"] = "down"
    with pytest.raises(DockstackError, match="nova-compute on old is down, enabled"):
        draining.undrain(cloud, "old")
