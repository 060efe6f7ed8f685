# SPDX-License-Identifier: Apache-2.0
"""Adding one node over SSH, to a server of the test's own, whose run is a script; and what is noted of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dockstack.deploy.administration import api
from dockstack.deploy.administration import enrolment as enrolment_module
from dockstack.deploy.administration.enrolment import REASON, Enrolment
from dockstack.deploy.administration.mapping import Mapping
from dockstack.deploy.administration.proof import Proof
from dockstack.deploy.configuration import migration
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import look, remote_run, targets
from dockstack.deploy.join.adding import Added, Adding
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.node_certificate import NodeCertificates
from dockstack.deploy.join.one_by_one import OneByOne
from dockstack.deploy.join.peers import Peers
from dockstack.deploy.join.plan import NodePlan
from dockstack.deploy.join.remote_run import RemoteRun
from dockstack.deploy.join.survey import Survey
from dockstack.deploy.node import own_package
from dockstack.deploy.node.connection import UnreachableError, connect
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.inventory import load
from dockstack.errors import DockstackError
from fake_cloud import administered

pytestmark = pytest.mark.unit
SAYS = Event(Kind.SAY, "one/switch", text="Starting ovsdb")
FAILS = Event(
    Kind.FAILED, "one/switch", "Starting the switch", text="No.", cure="Run `dockstack up` again.", details="x"
)
WELL = (SAYS, Event(Kind.END, changes=3, seconds=1.5))
BADLY = (FAILS, Event(Kind.FAILED, "one/compute", text="Killed."), Event(Kind.END, ok=False))


@pytest.fixture
def looked(cloud, compute):
    told = commission(compute(), cloud, "10.1.0.31")
    return Survey(NodePlan("one.example.org"), told, DEBIAN_12)


@pytest.fixture
def adding(tmp_path, monkeypatch):
    """What adds nodes to which dockstack has been sent already, and whose run tells these events."""
    monkeypatch.setattr(remote_run, "POLL", 0.02)
    for name in ("CLIENT_PUBLIC", "HOST_PUBLIC"):
        (tmp_path / name).write_text(f"ssh-ed25519 {name.ljust(68, 'A').replace('_', '')} made here\n")
        monkeypatch.setattr(migration, name, str(tmp_path / name))
    command_line = CommandLine(
        str(tmp_path / "cli"), str(tmp_path / "uv"), str(tmp_path / "state"), str(tmp_path / "guard")
    )
    (tmp_path / "cli" / "bin").mkdir(parents=True)
    lock = own_package.lock_digest("cli")
    (tmp_path / "cli" / ".dockstack-lock").write_text(f"{lock}\n")
    (tmp_path / "cli" / ".dockstack-wheel").write_text(f"{own_package.source_hash()}\n")

    def build(*events, enrolment=None):
        program = tmp_path / "cli" / "bin" / "python"
        lines = "".join(f"cat <<'end'\n{event.line()}\nend\n" for event in events)
        program.write_text(f"#!/bin/sh\ncp {tmp_path}/commission.json {tmp_path}/read\n{lines}")
        program.chmod(0o755)

        def run(connection, python):
            return RemoteRun(connection, python, f"{tmp_path}/commission.json", f"{tmp_path}/runs")

        kept = NodeCertificates(directory=tmp_path / "tls")
        return Adding(command_line, Journal(tmp_path / "nodes"), run, Peers(tmp_path / "peers"), enrolment, kept)

    return build


def test_a_node_joins_and_that_is_noted(adding, looked, connected, tmp_path):
    told = []
    one = adding(*WELL)
    assert one.add(connected.node, looked, told.append) == Added("one.example.org", 3, sent=False, seconds=1.5)
    assert [event.text for event in told] == ["Starting ovsdb"]
    assert (tmp_path / "read").read_text() == looked.told.text(), "the run finds its commission"
    (entry,) = one.journal.entries()
    assert (entry.node, entry.hostname, entry.step) == ("one", "one.example.org", Step.JOINED)
    assert (entry.release, entry.login) == ("2026.2", f"root@127.0.0.1:{connected.node.port}")


def test_the_way_to_a_node_is_noted_so_that_its_name_is_enough_from_anywhere(
    adding, looked, connected, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    node = replace(connected.node, key="id", known_hosts="~/known")  # HOME is this directory, too
    one = adding(*WELL)
    one.add(node, looked, lambda _: None)
    (entry,) = one.journal.entries()
    assert (entry.key, entry.known_hosts, entry.jump) == (str(tmp_path / "id"), str(tmp_path / "known"), "")
    monkeypatch.chdir("/")
    (again,) = targets.noted([entry], {}).values()
    inventory = load(None, further={"one": again})
    found = next(node for node in inventory.nodes if node.name == "one")
    assert look.hostname(connect(found))


def test_what_an_older_version_noted_is_read(tmp_path):
    (tmp_path / "one.json").write_text('{"node": "one", "login": "root@one:22", "hostname": "one", "release": "2026.2"')
    with (tmp_path / "one.json").open("a") as file:
        file.write(', "step": "enabled", "at": 1.0, "problem": "", "cure": ""}')
    assert Journal(tmp_path).entry("one") == Entry("one", "root@one:22", "one", "2026.2", Step.ENABLED, 1.0)


def test_the_keys_of_a_node_that_has_joined_are_known_here_and_where_it_listens(adding, looked, connected):
    one = adding(*WELL)
    one.add(connected.node, looked, lambda _: None)
    (peer,) = one.peers.all()
    assert peer.address == "10.1.0.31"
    assert peer.client.startswith("ssh-ed25519 CLIENTPUBLIC")
    assert peer.host.startswith("ssh-ed25519 HOSTPUBLIC")


def test_a_certificate_that_a_node_was_told_is_kept_for_the_next_time(adding, cloud, compute, connected, tmp_path):
    issued = SourceValues("test", {"ovn.issue": True, "ovn.certificate": "CERT\n", "ovn.private_key": "KEY\n"})
    told = commission(compute(), cloud.and_then(issued), "10.1.0.31")
    adding(*WELL).add(connected.node, Survey(NodePlan("one"), told, DEBIAN_12), lambda _: None)
    assert (tmp_path / "tls" / "one.pem").read_text() == "CERT\nKEY\n"


@pytest.mark.parametrize("command", ["dockstack node add", "dockstack up", "dockstack node upgrade"])
def test_the_first_failure_is_told_in_the_words_of_this_command_and_noted(adding, looked, connected, command):
    one = replace(adding(*BADLY), command=command)
    with pytest.raises(DockstackError, match="Starting the switch: No") as refused:
        one.add(connected.node, looked, lambda _: None)
    assert refused.value.resolution == f"Run `{command}` again."
    (entry,) = one.journal.entries()
    assert (entry.step, entry.problem) == (Step.FAILED, "Starting the switch: No.")


@pytest.fixture
def let_in(tmp_path, monkeypatch):
    """A cloud that maps hosts by itself, and what lets hosts into it; what does not report, does not do so later."""
    monkeypatch.setattr(enrolment_module, "PATIENCE", 0.01)
    with administered(tmp_path, monkeypatch) as fake:
        cloud = api.connect("dockstack")
        yield fake, Enrolment(cloud, Mapping(cloud), Proof(cloud))


def test_with_an_administrators_account_it_registers_disabled_and_is_let_in(
    adding, looked, connected, tmp_path, let_in
):
    fake, enrolment = let_in
    fake.add_host("one.example.org", enabled=False, reason=REASON)
    told, steps = [], []
    one = adding(*WELL, enrolment=enrolment)

    def tell(event):
        told.append(event.text)
        steps.append(one.journal.entry("one").step)

    added = one.add(connected.node, looked, tell)
    assert added.enrolled.enabled
    assert json.loads((tmp_path / "read").read_text())["disabled"] == REASON
    assert told == ["Starting ovsdb", "Booting a test server on it", "Removing the test server", "Enabling it"]
    assert steps == [Step.RUNNING, *[Step.PROVING] * 3]
    assert one.journal.entry("one").step is Step.ENABLED
    assert fake.services["one.example.org"]["status"] == "enabled"


STUCK = {"problem": "1 servers could not move.", "cure": "Run it again."}


@pytest.mark.parametrize(
    "emptied",
    [
        ("dockstack node drain: new disks", Step.DRAINED, Step.DRAINED),
        ("broken fan", Step.DRAINED, Step.DRAINED),
        ("dockstack node drain", Step.DRAINING, Step.DRAINING),
        ("dockstack node drain", Step.FAILED, Step.DRAINING),
        ("broken fan", Step.ENABLED, Step.JOINED),
        (None, Step.DRAINED, Step.ENABLED),
    ],
    ids=["drained", "disabled-before-it-was-drained", "draining", "failed-meanwhile", "somebody-elses", "enabled-anew"],
)
def test_one_that_was_emptied_stays_so_until_it_is_enabled(adding, looked, connected, let_in, emptied):
    reason, before, after = emptied
    fake, enrolment = let_in
    fake.add_host("one.example.org", enabled=reason is None, reason=reason)
    one = adding(*WELL, enrolment=enrolment)
    one.journal.note(Entry("one", "root@one:22", "one.example.org", "2026.2", before, **STUCK))
    one.add(connected.node, looked, lambda _: None)
    entry = one.journal.entry("one")
    assert entry.step is after
    assert bool(entry.problem) == (before is after)


def test_one_that_was_emptied_stays_so_without_an_administrators_account(adding, looked, connected):
    one = adding(*WELL)
    one.journal.note(Entry("one", "root@one:22", "one.example.org", "2026.2", Step.DRAINED))
    one.add(connected.node, looked, lambda _: None)
    assert one.journal.entry("one").step is Step.DRAINED


def test_one_that_does_not_prove_itself_has_failed_and_stays_disabled(adding, looked, connected, let_in):
    fake, enrolment = let_in
    fake.add_host("one.example.org", enabled=False, reason=REASON)
    fake.boots = False
    one = adding(*WELL, enrolment=enrolment)
    with pytest.raises(DockstackError, match="The engine is broken"):
        one.add(connected.node, looked, lambda _: None)
    assert one.journal.entry("one").step is Step.FAILED
    assert fake.services["one.example.org"]["status"] == "disabled"
    fake.boots = True
    assert one.add(connected.node, looked, lambda _: None).enrolled.enabled


def test_each_step_is_noted_before_it_begins(adding, looked, connected, tmp_path):
    one, steps = adding(*WELL), []
    one.add(connected.node, looked, lambda _: steps.append(one.journal.entries()[0].step))
    assert steps == [Step.RUNNING]
    (tmp_path / "cli" / ".dockstack-wheel").write_text("another\n")
    with pytest.raises(DockstackError, match="could not make dockstack's environment"):
        Adding(
            CommandLine(str(tmp_path / "cli"), "/nonexistent", str(tmp_path / "state"), str(tmp_path / "guard")),
            one.journal,
        ).add(
            connected.node,
            Survey(looked.plan, looked.told, type(DEBIAN_12)(**{**vars(DEBIAN_12), "python": "/bin/false"})),
            lambda _: steps.append(one.journal.entries()[0].step),
        )
    assert steps == [Step.RUNNING, Step.SENDING]


@pytest.mark.parametrize(
    ("plan", "waits"),
    [
        ({"servers": 1, "environments": ("OpenStack",)}, True),
        ({"servers": 0, "environments": ("OpenStack",)}, False),
        ({"servers": 1, "environments": ()}, False),
    ],
    ids=["another version beside servers", "no servers", "the same version"],
)
def test_a_node_with_servers_does_not_get_a_version_that_another_has_failed_with(
    adding, looked, connected, plan, waits
):
    turns = OneByOne()
    with pytest.raises(DockstackError), turns.turn("first", print):
        raise DockstackError("No.", "Mend it.")
    looked = replace(looked, plan=replace(looked.plan, **plan))
    one = replace(adding(*WELL), one_by_one=turns)
    if not waits:
        assert one.add(connected.node, looked, print).changes == 3
        return
    with pytest.raises(DockstackError, match="one has servers and runs its former version on: first failed"):
        one.add(connected.node, looked, print)


def test_a_dockstack_that_is_to_be_sent_is_another_version(adding, looked, connected, tmp_path):
    (tmp_path / "cli" / ".dockstack-wheel").write_text("another\n")
    turns = OneByOne()
    with pytest.raises(DockstackError), turns.turn("first", print):
        raise DockstackError("No.", "Mend it.")
    one = replace(adding(*WELL), one_by_one=turns)
    with pytest.raises(DockstackError, match="first failed with this one"):
        one.add(connected.node, replace(looked, plan=replace(looked.plan, servers=1)), print)


def refused_next(turns):
    with pytest.raises(DockstackError, match="one failed with this one"), turns.turn("next", print):
        pass
    return True


def test_one_whose_connection_breaks_while_its_run_goes_on_keeps_the_next_from_it(adding, looked, connected, server):
    turns = OneByOne()
    one = replace(adding(*WELL), one_by_one=turns)
    looked = replace(looked, plan=replace(looked.plan, servers=1, environments=("OpenStack",)))
    server.fatal = "setsid"
    with pytest.raises(UnreachableError):
        one.add(connected.node, looked, print)
    assert refused_next(turns)


def test_one_that_breaks_off_before_its_run_leaves_the_next_its_turn(adding, looked, connected, server):
    turns, begun = OneByOne(), []
    one = replace(adding(*WELL), one_by_one=turns)
    looked = replace(looked, plan=replace(looked.plan, servers=1, environments=("OpenStack",)))
    server.fatal = "commission.json"
    with pytest.raises(UnreachableError):
        one.add(connected.node, looked, print)
    with turns.turn("next", print):
        begun.append("next")
    assert begun


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "awaited"])
def test_one_with_another_version_has_its_turn_until_it_is_let_in(adding, looked, connected, let_in, enabled):
    fake, enrolment = let_in
    fake.add_host("one.example.org", enabled=enabled, reason=None if enabled else REASON, up=not enabled)
    fake.boots = False
    turns = OneByOne()
    one = replace(adding(*WELL, enrolment=enrolment), one_by_one=turns)
    looked = replace(looked, plan=replace(looked.plan, servers=1, environments=("OpenStack",)))
    with pytest.raises(DockstackError, match="has not reported" if enabled else "The engine is broken"):
        one.add(connected.node, looked, print)
    assert one.journal.entry("one").step is Step.FAILED
    assert refused_next(turns)


def test_a_machine_that_goes_down_meanwhile_is_noted(adding, looked, connected, server):
    one = adding(*WELL)
    server.fatal = "commission.json"
    with pytest.raises(UnreachableError, match="The connection to one broke"):
        one.add(connected.node, looked, lambda _: None)
    assert one.journal.entries()[0].step is Step.FAILED
    server.fatal = None
    assert one.add(connected.node, looked, lambda _: None).changes == 3
    assert [entry.step for entry in one.journal.entries()] == [Step.JOINED]


def test_no_secret_is_noted(adding, looked, connected, cloud, tmp_path):
    one = adding(*BADLY)
    with pytest.raises(DockstackError):
        one.add(connected.node, looked, lambda _: None)
    noted = "".join(path.read_text() for path in (tmp_path / "nodes").iterdir())
    assert not [secret for secret in cloud.secrets() if secret in noted]


def test_names_that_are_no_file_names_and_torn_files_do_no_harm(tmp_path):
    journal = Journal(tmp_path / "nodes")
    for name in ("../away", "2001:db8::1"):
        journal.note(Entry(name, "root@x:22", "x", "2026.2"))
    (tmp_path / "nodes" / "torn.json").write_text('{"node": "to')
    assert {entry.node for entry in journal.entries()} == {"../away", "2001:db8::1"}
    assert [path.name for path in tmp_path.iterdir()] == ["nodes"]
