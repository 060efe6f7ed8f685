# SPDX-License-Identifier: Apache-2.0
"""A node is upgraded over SSH to a server of the test's own, or has its former version again, and its servers go on."""

from __future__ import annotations

import pytest

from dockstack import waiting
from dockstack.deploy.administration import api
from dockstack.deploy.administration.enrolment import REASON
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import peers, remote_run, upgrading
from dockstack.deploy.join.adding import Adding
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.peers import Peer, Peers
from dockstack.deploy.join.plan import NodePlan
from dockstack.deploy.join.remote_run import RemoteRun
from dockstack.deploy.join.survey import Survey
from dockstack.deploy.join.upgrading import Places, Upgraded, Upgrading
from dockstack.deploy.node.connection import UnreachableError
from dockstack.deploy.run.events import Event, Kind
from dockstack.errors import DockstackError
from fake_cloud import administered

pytestmark = pytest.mark.unit
WELL = (Event(Kind.END, changes=3, seconds=1.5),)
BADLY = (Event(Kind.FAILED, title="Starting nova-compute", text="No.", cure="Mend it."), Event(Kind.END, ok=False))
DOCKER = '#!/bin/sh\ncase "$*" in *"ps -q"*) echo id ;; *inspect*) cat {root}/containers ;; esac\n'


class Shipped(CommandLine):
    """The new dockstack, which a node has when it was sent; there, it tells these events."""

    def __init__(self, root, events):
        super().__init__(str(root / "cli"))
        self.root, self.events = root, events

    def is_on(self, connection):
        return (self.root / "cli" / "version").read_text() == "new"

    def ship(self, connection, distribution):
        install(self.root, "new", self.events)


def install(root, version, events):
    """Have a version in both environments; what it runs notes itself and what it was told."""
    for name in ("cli", "openstack"):
        (root / name / "bin").mkdir(parents=True, exist_ok=True)
        (root / name / "version").write_text(version)
    lines = "".join(f"cat <<'end'\n{event.line()}\nend\n" for event in events)
    program = root / "cli" / "bin" / "python"
    program.write_text(f"#!/bin/sh\necho {version} $(cat {root}/commission.json | head -c 5) >>{root}/ran\n{lines}")
    program.chmod(0o755)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    with administered(tmp_path, monkeypatch) as made:
        made.add_host("one.example.org")
        yield made


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(remote_run, "POLL", 0.02)
    monkeypatch.setattr(upgrading, "POLL", 0.01)
    monkeypatch.setattr(upgrading, "REPORT", 0.2)
    monkeypatch.setattr(peers, "ask", lambda connection, address: Peer(address, "client", "host"))


@pytest.fixture
def looked(cloud, compute):
    plan = NodePlan("one.example.org", environments=("OpenStack 2026.2",))
    return Survey(plan, commission(compute(), cloud, "10.1.0.31"), DEBIAN_12)


@pytest.fixture
def upgrade(fake, cloud, looked, connected, tmp_path):
    """Upgrades the node, whose new version tells these events, and whose old one is as it was."""
    install(tmp_path, "old", WELL)
    (tmp_path / "commission.json").write_text("old!\n")
    (tmp_path / "containers").write_text("/nova-web id 2026-11-27T10:00\n/nova-db id2 2026-11-27T11:00\n")
    (tmp_path / "stubs" / "docker").write_text(DOCKER.format(root=tmp_path))
    (tmp_path / "stubs" / "docker").chmod(0o755)
    journal = Journal(tmp_path / "nodes")
    journal.note(Entry("one", "root@one:22", "one.example.org", "2026.2", Step.ENABLED))
    environments = (str(tmp_path / "cli"), str(tmp_path / "openstack"))
    guard, kept = str(tmp_path / "guard"), str(tmp_path / "former")
    places = Places(environments, str(tmp_path / "commission.json"), kept, guard)

    def run(connection, python):
        return RemoteRun(connection, python, f"{tmp_path}/commission.json", f"{tmp_path}/runs")

    def go(*events, left=(), patience=0.0):
        def look_again(node, document):
            return Survey(NodePlan("one.example.org", environments=left), looked.told, DEBIAN_12)

        adding = Adding(Shipped(tmp_path, events), journal, run, Peers(tmp_path / "peers"))
        one = Upgrading(api.connect("dockstack"), cloud, adding, places, look_again, patience)
        return one.upgrade(connected.node, look_again(None, None) if not events else looked, told.append)

    def is_due(*environments):
        adding = Adding(Shipped(tmp_path, WELL), journal)
        known = Survey(NodePlan("one.example.org", environments=environments), looked.told, DEBIAN_12)
        return Upgrading(api.connect("dockstack"), cloud, adding, places).is_due(connected.node, known)

    told = []
    go.told, go.journal, go.is_due = told, journal, is_due
    return go


def versions(root):
    return {(root / name / "version").read_text() for name in ("cli", "openstack")}


def test_it_runs_the_new_version_and_its_servers_go_on(upgrade, tmp_path):
    assert upgrade(*WELL) == Upgraded(changes=4, seconds=1.5)
    assert versions(tmp_path) == {"new"}
    assert not (tmp_path / "former").exists()
    entry = upgrade.journal.entry("one")
    assert (entry.step, entry.login.startswith("root@127.0.0.1:")) == (Step.ENABLED, True)
    assert next(event.text for event in upgrade.told if event.kind is Kind.SAY) == "Keeping what it runs with"


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "drained"])
def test_one_that_had_failed_is_in_again_when_it_is_upgraded(upgrade, fake, enabled):
    with pytest.raises(DockstackError):
        upgrade(*BADLY)
    fake.add_host("one.example.org", enabled=enabled, reason=None if enabled else "dockstack node drain")
    upgrade(*WELL)
    entry = upgrade.journal.entry("one")
    assert (entry.step, entry.problem) == (Step.ENABLED if enabled else Step.DRAINING, "")


def test_what_to_run_again_is_this_command(cloud):
    assert Upgrading(None, cloud).adding.command == "dockstack node upgrade"


def test_a_second_run_changes_nothing(upgrade, tmp_path):
    upgrade(*WELL)
    ran = (tmp_path / "ran").read_text()
    assert upgrade() == Upgraded()
    assert (tmp_path / "ran").read_text() == ran


def test_one_that_fails_has_its_former_version_again_with_what_it_was_told(upgrade, tmp_path):
    with pytest.raises(
        DockstackError, match=r"Starting nova-compute: No\. one runs its former version again"
    ) as failed:
        upgrade(*BADLY)
    assert failed.value.resolution == "Mend it."
    assert versions(tmp_path) == {"old"}
    assert (tmp_path / "commission.json").read_text() == "old!\n"
    assert (tmp_path / "ran").read_text().splitlines()[-1] == "old old!", "the former run makes all else fit again"
    assert not list(tmp_path.glob("*former*")) + list(tmp_path.glob("*.failed"))
    assert upgrade.journal.entry("one").step is Step.FAILED


def test_one_that_the_cloud_does_not_hear_from_has_its_former_version_again(upgrade, fake, tmp_path, monkeypatch):
    add = Adding.add

    def silent(self, *given):
        fake.services["one.example.org"]["state"] = "down"
        return add(self, *given)

    monkeypatch.setattr(Adding, "add", silent)
    with pytest.raises(DockstackError, match="has not reported within"):
        upgrade(*WELL)
    assert versions(tmp_path) == {"old"}
    entry = upgrade.journal.entry("one")
    assert (entry.step, entry.problem.endswith("runs its former version again.")) == (Step.FAILED, True)


def test_one_on_which_something_is_left_to_do_has_its_former_version_again(upgrade, tmp_path):
    with pytest.raises(DockstackError, match=r"not as it should be: OpenStack 2026\.2"):
        upgrade(*WELL, left=("OpenStack 2026.2",))
    assert versions(tmp_path) == {"old"}


def test_a_run_that_was_killed_goes_on_and_what_worked_is_still_kept(upgrade, fake, tmp_path):
    install(tmp_path, "half", BADLY)
    former = tmp_path / "former"
    for name in ("cli", "openstack"):
        (former / name / "bin").mkdir(parents=True)
        (former / name / "version").write_text("old")
        (former / name / "bin" / "python").write_text(f"#!/bin/sh\necho '{WELL[0].line()}'\n")
        (former / name / "bin" / "python").chmod(0o755)
    (former / "commission.json").write_text("old!\n")
    (former / ".whole").write_text("")
    fake.services["one.example.org"]["state"] = "down"  # what was half done may not run
    with pytest.raises(DockstackError, match="runs its former version again"):
        upgrade(*BADLY)
    assert versions(tmp_path) == {"old"}
    fake.services["one.example.org"]["state"] = "up"
    assert upgrade(*WELL).changes == 4


def test_what_a_killed_run_has_put_back_already_is_put_back_again(upgrade, tmp_path):
    """It was killed when the command line was back and the services' environment was not, nor what it was told."""
    install(tmp_path, "half", BADLY)
    (tmp_path / "cli" / "version").write_text("old")
    (tmp_path / "former" / "openstack" / "bin").mkdir(parents=True)
    (tmp_path / "former" / "openstack" / "version").write_text("old")
    (tmp_path / "former" / "commission.json").write_text("old!\n")
    (tmp_path / "former" / ".whole").write_text("")
    with pytest.raises(DockstackError):
        upgrade(*BADLY)
    assert versions(tmp_path) == {"old"}
    assert (tmp_path / "commission.json").read_text() == "old!\n"


def test_a_connection_that_breaks_leaves_the_nodes_run_alone(upgrade, server, tmp_path):
    server.fatal = "/runs/"
    with pytest.raises(UnreachableError):
        upgrade(*WELL)
    assert (tmp_path / "former" / ".whole").exists()


def test_one_that_does_not_report_before_is_refused(upgrade, fake, tmp_path):
    fake.services["one.example.org"]["state"] = "down"
    with pytest.raises(DockstackError, match="does not report now"):
        upgrade(*WELL)
    assert versions(tmp_path) == {"old"}


def test_a_cloud_that_was_restarted_just_now_is_given_time_to_hear_from_it(upgrade, fake, monkeypatch):
    service, looks = fake.services["one.example.org"], []
    service["state"] = "down"

    def comes_back(*_):
        looks.append(service.update(state="up"))

    monkeypatch.setattr(waiting.time, "sleep", comes_back)
    assert upgrade(*WELL, patience=60).changes == 4
    assert looks


def test_a_node_that_is_in_with_another_dockstack_or_release_is_due(upgrade, fake, tmp_path):
    assert upgrade.is_due()
    upgrade(*WELL)
    assert not upgrade.is_due()
    assert upgrade.is_due("OpenStack 2026.2")
    (tmp_path / "former").mkdir()
    assert upgrade.is_due(), "its upgrade was killed"


@pytest.mark.parametrize(("reason", "due"), [(REASON, False), ("broken fan", True)], ids=["new", "was-in"])
def test_what_was_not_let_in_yet_has_nothing_to_go_back_to(upgrade, fake, reason, due):
    fake.add_host("one.example.org", enabled=False, reason=reason)
    assert upgrade.is_due() is due


def test_another_machine_of_the_name_of_a_host_is_none_to_upgrade(upgrade, tmp_path):
    (tmp_path / "commission.json").unlink()
    assert not upgrade.is_due()


def test_servers_that_were_started_anew_are_named(upgrade, tmp_path, monkeypatch):
    shipped = Shipped.ship

    def ship(self, connection, distribution):
        (tmp_path / "containers").write_text("/nova-web id 2026-11-27T12:00\n/nova-db id2 2026-11-27T11:00\n/new i t\n")
        shipped(self, connection, distribution)

    monkeypatch.setattr(Shipped, "ship", ship)
    assert upgrade(*WELL).disturbed == ("nova-web",)
