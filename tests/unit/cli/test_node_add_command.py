# SPDX-License-Identifier: Apache-2.0
"""`dockstack node add | list | show`: what is said of many hosts. Looking and adding have tests of their own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import cloud_files
from dockstack.cli import node as command
from dockstack.cli.cloud_document import cloud
from dockstack.deploy.join import journal, probes
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.errors import DockstackError
from fake_cloud import administered

pytestmark = pytest.mark.unit


@pytest.fixture
def add(hosts, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "require_release", lambda _: None)  # nobody is there whom it could ask
    monkeypatch.setattr(probes, "require_accepted", lambda _: None)
    document = str(tmp_path / "cloud.yaml")
    files = [str(path) for path in cloud_files.write(cloud_files.KOLLA, tmp_path)]
    CliRunner().invoke(cloud, ["import", "--cloud", document, "--set", "release=2026.2", *files])
    (tmp_path / "environment.yaml").write_text("nodes: {}\n")
    line = ["add", "--cloud", document, "--environment", str(tmp_path / "environment.yaml")]
    return lambda *words: CliRunner().invoke(command.node, [*line, *words], catch_exceptions=False)


def test_a_host_that_breaks_or_does_not_fit_stops_only_itself(add, hosts):
    done = add("good", "breaks", "down", "unfit", "last")
    assert done.exit_code == 1
    assert sorted(hosts.added) == ["breaks", "good", "last"]
    assert "good: joined as good.example.org: 7 changes, in 2.0 s" in done.output
    assert "last: joined" in done.output
    assert "breaks: failed\n  Starting the switch: No.\n  | last words\n  what to do: Mend it." in done.output
    assert "down: cannot be looked at" in done.output
    assert "It holds a cloud." in done.output


def test_a_cloud_that_would_refuse_nodes_is_said_before_any_host_is_touched(add, hosts, monkeypatch):
    def refuse(_):
        raise DockstackError("The cloud would refuse nodes.", "Correct the document.")

    monkeypatch.setattr(probes, "require_accepted", refuse)
    with pytest.raises(DockstackError, match="would refuse nodes"):
        add("good")
    assert hosts.added == []


def test_all_that_join_are_a_success_and_what_is_left_to_do_is_said(add):
    done = add("good", "again")
    assert done.exit_code == 0
    assert "again: joined as again.example.org: nothing had to be changed" in done.output
    assert "nova-manage cell_v2 discover_hosts" in done.output


def test_those_with_servers_come_last_and_take_turns_for_another_version(add, hosts):
    add("busy", "good", "last", "--forks", "1")
    assert hosts.added == ["good", "last", "busy"]
    assert hosts.one_by_one is not None


def test_with_an_administrators_account_they_are_let_in(add, hosts, tmp_path, monkeypatch):
    with administered(tmp_path, monkeypatch):
        done = add("good", "again", "kept", "--os-cloud", "dockstack", "--set", "deploy.map_command=echo hi")
    assert done.exit_code == 0
    assert (
        "good: joined as good.example.org: 7 changes, in 2.0 s; a test server was active after 3.2 s; enabled"
        in done.output
    )
    assert "again: joined as again.example.org: nothing had to be changed, in 2.0 s; enabled" in done.output
    assert "kept: joined as kept.example.org: 7 changes, in 2.0 s; it stays disabled: broken fan" in done.output
    assert "discover_hosts" not in done.output
    assert hosts.enrolment.mapping._command == "echo hi"


def test_wrong_credentials_are_said_before_any_host_is_touched(add, hosts, tmp_path, monkeypatch):
    with administered(tmp_path, monkeypatch) as fake:
        fake.administrator = False
        with pytest.raises(DockstackError, match="no administrator's"):
            add("good", "--os-cloud", "dockstack")
    assert hosts.added == []


def test_nodes_that_have_joined_are_told_of_each_other_and_one_that_could_not_be_has_not(add, hosts):
    done = add("good", "breaks", "shy")
    assert sorted(hosts.introduced) == ["good", "old", "shy"], "and who had joined before"
    assert done.exit_code == 1
    assert "shy: failed\n  It does not learn of others.\n  what to do: Try again." in done.output
    last = json.loads(add("--json", "good", "shy").stdout.splitlines()[-1])["hosts"]
    assert (last["good"]["joined"], last["shy"]["error"]) == (True, "It does not learn of others.")


def test_each_host_tells_what_it_does_now(add):
    lines = add("good", "--forks", "1").output.splitlines()
    assert lines[:2] == ["good: Starting the switch", "good: Starting ovsdb"]


def test_two_machines_of_one_name_are_not_touched(add, hosts):
    assert add("good", "same").exit_code == 1
    assert hosts.added == []


def test_machines_read_events_of_each_host_and_at_the_end_what_came_of_all(add):
    *events, last = [json.loads(line) for line in add("--json", "good", "breaks", "unfit").stdout.splitlines()]
    assert {event["host"] for event in events} == {"good", "breaks"}
    assert last["event"] == "hosts"
    found = last["hosts"]
    assert found["good"] == {
        "joined": True,
        "hostname": "good.example.org",
        "changes": 7,
        "sent": False,
        "seconds": 2.0,
        "enrolled": None,
    }
    assert (found["breaks"]["joined"], found["breaks"]["error"]) == (False, "Starting the switch: No.")
    assert found["unfit"]["fits"] is False


@pytest.fixture
def noted(tmp_path, monkeypatch):
    kept = Journal(tmp_path / "nodes")
    monkeypatch.setattr(journal, "Journal", lambda: kept)
    first = Entry("a", "root@a:22", "a.example.org", "2026.2")
    kept.note(first.now(Step.JOINED))
    kept.note(Entry("b", "root@b:22", "b.example.org", "2026.2").now(Step.FAILED, "It broke.", "Mend it."))


def test_nodes_are_listed_with_how_far_each_came(noted):
    lines = CliRunner().invoke(command.node, ["list"]).output.splitlines()
    assert [line.split()[:5] for line in lines[1:]] == [
        ["a", "a.example.org", "root@a:22", "2026.2", "joined"],
        ["b", "b.example.org", "root@b:22", "2026.2", "failed"],
    ]
    listed = json.loads(CliRunner().invoke(command.node, ["list", "--json"]).output)
    assert [one["step"] for one in listed] == ["joined", "failed"]


def test_one_is_shown_with_what_went_wrong(noted):
    told = CliRunner().invoke(command.node, ["show", "b"]).output
    assert "problem: It broke.\ncure: Mend it.\n" in told
    assert json.loads(CliRunner().invoke(command.node, ["show", "a", "--json"]).output)["hostname"] == "a.example.org"


def test_one_that_was_not_added_from_here_is_said(noted):
    done = CliRunner().invoke(command.node, ["show", "c"])
    assert isinstance(done.exception, DockstackError)
    assert "There are: a, b." in done.exception.resolution
