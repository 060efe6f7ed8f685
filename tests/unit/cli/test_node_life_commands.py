# SPDX-License-Identifier: Apache-2.0
"""`dockstack node drain | undrain | remove`, against a cloud's APIs over HTTP; the nodes' names are in the journal."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import cloud_files
from dockstack.cli import node as command
from dockstack.cli.cloud_document import cloud
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import checking, journal, probes, survey, upgrading
from dockstack.deploy.join.checking import Checked, Finding, Level
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.peers import Peer, Peers
from dockstack.deploy.join.plan import NodePlan
from dockstack.deploy.join.survey import Survey
from dockstack.deploy.join.upgrading import Upgraded
from dockstack.deploy.node.connection import UnreachableError
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.run.preflight import Problem
from dockstack.errors import DockstackError
from fake_cloud import administered

pytestmark = pytest.mark.unit


@pytest.fixture
def noted(tmp_path, monkeypatch):
    kept = Journal(tmp_path / "nodes")
    monkeypatch.setattr(journal, "DIRECTORY", str(tmp_path / "nodes"))
    monkeypatch.setattr(Journal.__init__, "__defaults__", (str(tmp_path / "nodes"),))
    monkeypatch.setattr(Peers.__init__, "__defaults__", (str(tmp_path / "peers"),))
    for name in ("a", "b", "c"):
        kept.note(Entry(name, f"root@{name}:22", f"{name}.example.org", "2026.2", Step.ENABLED))
    return kept


@pytest.fixture
def fake(tmp_path, monkeypatch):
    with administered(tmp_path, monkeypatch) as made:
        for name in ("a", "b", "c"):
            made.add_host(f"{name}.example.org")
        yield made


@pytest.fixture
def node(fake, noted, tmp_path):
    document = str(tmp_path / "cloud.yaml")
    files = [str(path) for path in cloud_files.write(cloud_files.KOLLA, tmp_path)]
    CliRunner().invoke(cloud, ["import", "--cloud", document, "--set", "release=2026.2", *files])
    (tmp_path / "environment.yaml").write_text("nodes: {}\n")
    where = ["--cloud", document, "--environment", str(tmp_path / "environment.yaml"), "--os-cloud", "dockstack"]
    return lambda verb, *words: CliRunner().invoke(command.node, [verb, *where, *words], input="n\n")


def test_hosts_that_are_drained_together_send_each_other_nothing(node, fake, noted):
    for host in ("a", "b"):
        for number in range(2):
            fake.add_server(f"{host}{number}", f"{host}.example.org")
    done = node("drain", "a", "b", "--reason", "new disks", "--forks", "1")
    assert done.exit_code == 0
    assert {each["host"] for each in fake.servers.values()} == {"c.example.org"}
    assert "a: empty: 2 servers have moved; disabled until `dockstack node undrain`" in done.output
    assert fake.services["b.example.org"]["disabled_reason"] == "dockstack node drain: new disks"
    assert [entry.step for entry in noted.entries()] == [Step.DRAINED, Step.DRAINED, Step.ENABLED]


def test_who_stays_is_named_on_a_line_of_its_own(node, fake, noted):
    stuck = fake.add_server("stuck\nforged", "a.example.org", "PAUSED")
    fake.add_server("web", "a.example.org")
    done = node("drain", "a")
    assert done.exit_code == 1
    assert f"  stuck\\nforged ({stuck}): it is paused\n    openstack server unpause\n" in done.output
    assert "a: not empty: 1 servers have moved, 1 cannot" in done.output
    assert noted.entry("a").problem == "1 servers could not move."


def test_machines_read_what_came_of_all(node, fake):
    stuck = fake.add_server("stuck", "a.example.org", "ERROR")
    done = node("drain", "--json", "a", "b", "nowhere")
    assert done.exit_code == 1
    last = json.loads(done.stdout.splitlines()[-1])["hosts"]
    assert last["b"] == {"empty": True, "moved": [], "unmoved": []}
    assert last["a"]["unmoved"][0]["server"] == f"stuck ({stuck})"
    assert (last["nowhere"]["empty"], bool(last["nowhere"]["cure"])) == (False, True)


def test_they_come_back(node, fake, noted):
    node("drain", "a")
    done = node("undrain", "a", "b")
    assert "a: enabled\n" in done.output
    assert "b: enabled, as it was\n" in done.output
    told = json.loads(node("undrain", "--json", "b", "nowhere").stdout.splitlines()[-1])["hosts"]
    assert (told["b"]["enabled"], bool(told["nowhere"]["cure"])) == (True, True)
    assert (noted.entry("a").step, fake.services["a.example.org"]["status"]) == (Step.ENABLED, "enabled")


@pytest.mark.parametrize("verb", ["drain", "undrain", "upgrade", "remove"])
def test_hosts_are_never_all_meant_because_none_was_named(node, fake, verb, tmp_path):
    nodes = "nodes:\n  a: {connector: '@ssh', roles: [compute]}\n"
    (tmp_path / "environment.yaml").write_text(nodes)
    done = node(verb)
    assert isinstance(done.exception, DockstackError)
    assert f"Which hosts to {verb} was not said" in done.exception.brief
    assert fake.changes() == []


def test_without_an_administrators_account_nothing_is_done(node, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path / "nodes")
    done = node("drain", "a", "--os-cloud", "")
    assert isinstance(done.exception, DockstackError)
    assert "--os-cloud" in done.exception.resolution


def test_a_dead_host_is_forgotten(node, fake, noted):
    fake.services["a.example.org"]["state"] = "down"
    done = node("remove", "--lost", "--yes", "a", "b")
    assert done.exit_code == 1
    assert "a: removed\n" in done.output
    assert "b: failed\n  nova-compute on b.example.org has reported" in done.output
    assert set(fake.services) == {"b.example.org", "c.example.org"}
    assert [entry.node for entry in noted.entries()] == ["b", "c"]


@pytest.fixture
def upgrades(monkeypatch, noted):
    """Upgrades hosts, of which one fails, without their machines."""
    begun = []

    def look(node, document):
        if node.name == "down":
            raise DockstackError("Node down cannot be reached.", "Check its address.")
        problems = (Problem("It holds a cloud.", "Use another."),) if node.name == "unfit" else ()
        return Survey(
            NodePlan(f"{node.name}.example.org", problems), commission(node, document, "10.1.0.31"), DEBIAN_12
        )

    def upgrade(_, node, looked, tell):
        begun.append(node.name)
        if node.name == "cut":
            raise UnreachableError("The connection to cut broke.", "Run it again.")
        tell(Event(Kind.SAY, text="Keeping what it runs with"))
        if node.name == "b":
            raise DockstackError("No. b runs its former version again.", "Mend it.")
        return Upgraded(changes=0 if node.name == "same" else 4, seconds=2.0, disturbed=("nova-x\n",))

    monkeypatch.setattr(survey, "survey", look)
    monkeypatch.setattr(upgrading.Upgrading, "upgrade", upgrade)
    monkeypatch.setattr(probes, "require_accepted", lambda _: None)
    return begun


def test_no_host_is_upgraded_to_what_the_cloud_would_refuse(node, upgrades, monkeypatch):
    def refuse(_):
        raise DockstackError("The cloud would refuse nodes.", "Correct the document.")

    monkeypatch.setattr(probes, "require_accepted", refuse)
    assert "would refuse nodes" in str(node("upgrade", "a").exception)
    assert upgrades == []
    node("upgrade", "a", "--skip-probes")
    assert upgrades == ["a"]


def test_no_further_host_is_begun_with_when_one_has_failed(node, upgrades):
    done = node("upgrade", "cut", "a", "b", "c", "unfit", "down", "--forks", "1")
    assert done.exit_code == 1
    assert upgrades == ["cut", "a", "b"]
    assert "a: upgraded: 4 changes, in 2.0 s\n  nova-x\\n was started anew, or ended, meanwhile" in done.output
    assert "b: failed\n  No. b runs its former version again." in done.output
    assert "c: failed\n  Not begun: others have failed." in done.output
    assert "It holds a cloud." in done.output


def test_one_host_is_upgraded_at_a_time_unless_more_are_asked_for(node, upgrades, monkeypatch):
    from dockstack.deploy.join import fleet  # noqa: PLC0415 - only here

    each, forks = fleet.each, []

    def counted(nodes, at_once, *rest):
        forks.append(at_once)
        return each(nodes, at_once, *rest)

    monkeypatch.setattr(fleet, "each", counted)
    node("upgrade", "b", "a", "c")
    assert upgrades == ["b"], "the first that fails is the last that is begun with"
    node("upgrade", "a", "c", "--forks", "30")
    assert forks == [20, 1, 30, 30], "all are looked at, then upgraded"


def test_more_failures_are_borne_when_that_is_said(node, upgrades):
    done = node("upgrade", "b", "same", "down", "--forks", "1", "--stop-after", "2", "--json")
    assert upgrades == ["b", "same"]
    last = json.loads(done.stdout.splitlines()[-1])["hosts"]
    assert {name: one["upgraded"] for name, one in last.items()} == {"b": False, "same": True, "down": False}


def test_a_node_that_is_not_well_is_told_from_one_that_is(node, monkeypatch):
    def look(one, document, cloud):
        if one.name == "down":
            raise DockstackError("Node down cannot be reached.", "Check its address.")
        wrong = Finding("services", "nova-compute: x\ny", "logs")
        warning = Finding("nova", "disabled", "undrain", Level.WARNING)
        return Checked(f"{one.name}.example.org", (warning, wrong) if one.name == "b" else (warning,))

    monkeypatch.setattr(checking, "check", look)
    assert node("check", "a").exit_code == 0
    done = node("check", "a", "b", "down")
    assert done.exit_code == 1
    assert "a: well\n  warning: nova: disabled\n    undrain\n" in done.output
    assert (
        "b: not well\n  warning: nova: disabled\n    undrain\n  wrong: services: nova-compute: x\\ny\n" in done.output
    )
    last = json.loads(node("check", "--json", "a", "b", "down").stdout.splitlines()[-1])["hosts"]
    assert {name: one["well"] for name, one in last.items()} == {"a": True, "b": False, "down": False}


@pytest.fixture
def told(monkeypatch, noted):
    """Which nodes were told, how they were reached, and whom they know since; c cannot be."""
    found, kept = [], Peers()
    for name in ("a", "b", "c"):
        kept.note(name, Peer(f"192.0.2.{ord(name)}", name, "host"))

    def introduce(peers, node):
        if node.name == "c":
            raise UnreachableError("Node c cannot be reached.", "Check its address.")
        known = "".join(peer.client for peer in peers.all())
        found.append((f"{node.name}={node.user}@{node.address}:{node.port}", known))

    monkeypatch.setattr(Peers, "introduce_to", introduce)
    return found


def test_nodes_that_stay_let_nobody_in_who_is_gone_and_one_that_was_not_told_is_said(node, fake, told, tmp_path):
    fake.services["a.example.org"]["state"] = "down"
    done = node("remove", "--lost", "--yes", "a")
    assert told == [("b=root@b:22", "bc")]
    assert "a: removed" in done.output
    assert "c: failed\n  It may let in a node that is gone: Node c cannot be reached." in done.output
    assert done.exit_code == 1
    nodes = "nodes:\n  b: {connector: '@ssh', roles: [compute], address: 192.0.2.9, user: admin}\n"
    (tmp_path / "environment.yaml").write_text(nodes)
    done = node("remove", "--lost", "--yes", "--json", "a")
    assert told[1:] == [("b=admin@192.0.2.9:22", "bc")], "the next run tells them again"
    assert list(json.loads(done.stdout.splitlines()[-1])["unmet"]) == ["c"]


def test_one_that_could_not_be_removed_is_told_of_those_that_were(node, fake, told):
    fake.services["a.example.org"]["state"] = "down"
    node("remove", "--lost", "--yes", "a", "b")
    assert told == [("b=root@b:22", "bc")]
    del told[:]
    assert node("remove", "--lost", "--yes", "b").exit_code == 1
    assert told == [], "nobody is gone"


def test_one_that_cannot_be_reached_may_be_dead(node, fake, tmp_path):
    done = node("remove", "--yes", "127.0.0.1:1", "--known-hosts", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "If the machine is dead, give --lost." in done.output
    assert fake.changes() == []


def test_who_does_not_say_yes_keeps_them(node, fake):
    done = node("remove", "--lost", "a")
    assert "Nothing was removed" in str(done.exception)
    assert fake.changes() == []


def test_an_interruption_says_what_it_leaves(node, fake, monkeypatch):
    from dockstack.cli import node_run  # noqa: PLC0415 - only here
    from dockstack.deploy.join import fleet  # noqa: PLC0415

    each = fleet.each

    def interrupted(nodes, forks, work, tell):
        if fake.services["a.example.org"]["status"] == "enabled":
            return each(nodes, forks, work, tell)
        raise KeyboardInterrupt

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(fleet, "each", interrupted)
    monkeypatch.setattr(node_run.os, "_exit", leave)
    done = node("drain", "a")
    assert done.exit_code == 130
    assert "Hosts that were begun with stay disabled" in done.stderr
