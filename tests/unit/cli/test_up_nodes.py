# SPDX-License-Identifier: Apache-2.0
"""`dockstack up` with compute nodes on other machines; what joining does has tests of its own."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

import cloud_files
from dockstack.cli import cloud, up, up_nodes
from dockstack.deploy import paths
from dockstack.deploy.join import fleet, probes, service_files
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.upgrading import Upgraded, Upgrading
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.wanted import cloud_document
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.errors import DockstackError
from fake_cloud import administered

pytestmark = pytest.mark.unit
ENVIRONMENT = """\
roles:
  controller:
    listen_address: 192.0.2.1
    tls.enable: true
nodes:
  controller:
    roles: [controller, network{compute}]
    attributes: {{network.encap_ip: 192.0.2.1}}
{nodes}
"""
NODE = "  {name}: {{connector: '@ssh', roles: [compute], address: 192.0.2.9}}"


class Site:
    """One machine whose own part of `up` is taken as done, and hosts whose names say how they are."""

    def __init__(self, tmp_path, monkeypatch):
        self.path, self.steps, self.status = tmp_path / "dockstack.yaml", [], 0
        self._administered = lambda: administered(tmp_path, monkeypatch)

    def describe(self, *names, compute=False):
        nodes = "\n".join(NODE.format(name=name) for name in names)
        self.path.write_text(ENVIRONMENT.format(compute=", compute" if compute else "", nodes=nodes))

    def up(self, *options):
        with self._administered():
            return CliRunner().invoke(up.up, ["--environment", str(self.path), *options])


@pytest.fixture
def site(hosts, tmp_path, monkeypatch):
    made = Site(tmp_path, monkeypatch)
    for name in ("SAVED_OPTIONS", "CLOUD_DOCUMENT", "BAKED", "BAKED_NOTE"):
        monkeypatch.setattr(paths, name, str(tmp_path / name))
    monkeypatch.setattr(up, "require_root", lambda _: None)
    monkeypatch.setattr(up, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(up.preflight, "check", lambda _: None)
    monkeypatch.setattr(up, "apply", lambda *_, **__: made.steps.append("controller") or made.status)
    monkeypatch.setattr(up, "first_server_once", lambda **_: made.steps.append("first server"))
    monkeypatch.setattr(up_nodes, "Journal", lambda: hosts.journal)
    monkeypatch.setattr(probes, "require_release", lambda _: None)  # nobody is there whom it could ask
    files = cloud_files.write(cloud_files.KOLLA, tmp_path)

    def found(_):
        read = service_files.read([str(path) for path in files])
        return service_files.Found((*read.sources, SourceValues("test", {"release": "2026.2"})), read.problems)

    monkeypatch.setattr(up_nodes, "of_this_machine", found)
    add = hosts.add
    monkeypatch.setattr(hosts, "add", lambda node, *more: made.steps.append(node.name) or add(node, *more))
    monkeypatch.setattr(Upgrading, "is_due", lambda *_: False)  # nobody connects to the hosts
    return made


def test_nodes_join_when_the_controller_is_up_and_one_that_breaks_stops_only_itself(site, hosts):
    site.describe("breaks", "good", "unfit")
    done = site.up("--forks", "1")
    assert site.steps == ["controller", "breaks", "good"]
    assert "good: joined as good.example.org" in done.stdout
    assert "breaks: failed\n  Starting the switch: No." in done.stdout
    assert "It holds a cloud." in done.stdout
    assert "Your cloud is up." in done.stdout
    assert isinstance(done.exception, DockstackError)
    assert "not all of its compute nodes are in" in done.exception.brief


def test_all_in_is_a_success_and_what_nodes_were_told_can_be_read_by_later_commands(site, hosts):
    site.describe("good", "again")
    done = site.up()
    assert done.exit_code == 0, done.exception
    assert cloud_document.load(paths.CLOUD_DOCUMENT).text("release") == "2026.2"
    assert hosts.enrolment.proof is not None
    assert hosts.command == "dockstack up", "what people are told to run again"
    assert sorted(hosts.introduced) == ["again", "good", "old"]


def test_an_engine_of_our_own_for_a_node_is_said(site):
    site.describe("theirs", "good")
    said = site.up().stdout
    assert "theirs: engine of dockstack's own (the machine's is in a swarm)" in said
    assert "good: engine" not in said


def test_nothing_joins_a_cloud_that_did_not_come_up(site):
    site.describe("good")
    site.status = 1
    assert site.up().exit_code == 1
    assert site.steps == ["controller"]


def test_a_first_server_needs_a_controller_that_runs_servers(site):
    site.describe("good", compute=True)
    site.up()
    assert site.steps == ["controller", "first server", "good"]
    site.up("--skip-verify")
    assert site.steps[3:] == ["controller", "good"]


SAID = SourceValues("command line", {"messaging.rabbit_qos_prefetch_count": 7, "release": "2026.1"})
GIVEN = SourceValues("--set-file /root/ca.pem", {"tls.authority": "PEM"})
NAMED = SourceValues("nova.conf [vnc] novncproxy_base_url", {"consoles.novnc_url": "https://gone.example.org"})


def save(*further):
    """Have a document there of this machine's cloud, as an earlier `up` or a person left it."""
    before = cloud_document.load(paths.CLOUD_DOCUMENT)
    for source in further:
        before = before.and_then(source)
    cloud_document.save(before, paths.CLOUD_DOCUMENT)


def test_a_second_up_writes_the_same_document_and_keeps_what_a_person_said(site):
    site.describe("good")
    site.up()
    files = [Path(paths.CLOUD_DOCUMENT), cloud_document.secrets_path(paths.CLOUD_DOCUMENT)]
    first = [path.read_text() for path in files]
    site.up()
    assert [path.read_text() for path in files] == first
    save(SAID, GIVEN, NAMED)
    files[0].write_text(f"{files[0].read_text()}deployer: Kolla-Ansible\n")
    for _ in range(2):
        assert site.up().exit_code == 0
        now = cloud_document.load(paths.CLOUD_DOCUMENT)
        assert now.values.number("messaging.rabbit_qos_prefetch_count") == 7
        assert (now.text("tls.authority"), now.text("deployer")) == ("PEM", "Kolla-Ansible")
        assert now.text("release") == "2026.2", "which goes on with this machine's"
        assert now.text("consoles.novnc_url") != "https://gone.example.org", "which the cloud tells, and otherwise now"


def test_the_document_of_another_cloud_is_kept_with_its_secrets(site):
    site.describe("good")
    site.up()
    moved = SourceValues("x", {"identity.auth_url": "http://192.0.2.7:5000/v3"})
    save(moved)
    assert site.up().exit_code == 0, "this cloud, at its former address"
    save(moved, SourceValues("x", {"accounts.nova.password": "theirs"}))
    done = site.up()
    assert "is of another cloud, whose Keystone is at http://192.0.2.7:5000/v3" in done.exception.brief
    assert paths.CLOUD_DOCUMENT in done.exception.resolution
    assert cloud_document.load(paths.CLOUD_DOCUMENT).text("accounts.nova.password") == "theirs"
    assert site.steps[-1] == "controller"


@pytest.fixture
def older(monkeypatch):
    """Have nodes be in with an older version; one does not come up with the new one."""
    names, begun = set(), []

    def upgrade(_, node, looked, tell):
        begun.append(node.name)
        tell(Event(Kind.SAY, text="Keeping what it runs with"))
        if node.name == "worse":
            raise DockstackError("No. worse runs its former version again.", "Mend it.")
        names.discard(node.name)
        return Upgraded(changes=4, seconds=2.0)

    def is_due(_, node, looked):
        if node.name == "torn":
            raise DockstackError("The connection to torn broke.", "Run it again.")
        return node.name in names

    monkeypatch.setattr(Upgrading, "upgrade", upgrade)
    monkeypatch.setattr(Upgrading, "is_due", is_due)
    return names, begun


def test_nodes_of_an_older_version_are_upgraded_one_by_one_before_anything_joins(site, older, monkeypatch):
    names, begun = older
    names |= {"good", "again"}
    site.describe("good", "again", "kept")
    each, forks = fleet.each, []
    monkeypatch.setattr(
        fleet, "each", lambda nodes, at_once, *rest: forks.append(at_once) or each(nodes, at_once, *rest)
    )
    done = site.up()
    assert done.exit_code == 0, done.exception
    assert begun == ["good", "again"]
    assert forks == [20, 20, 1, 20, 20], "looked at, asked, upgraded, joined, told of each other"
    assert sorted(site.steps[1:]) == ["again", "good", "kept"]
    assert done.stdout.index("again: upgraded: 4 changes") < done.stdout.index("good: joined")
    assert site.up().exit_code == 0
    assert begun == ["good", "again"], "a second run upgrades nothing"


def test_no_further_node_is_upgraded_when_one_has_its_former_version_again_and_new_ones_join(site, older):
    names, begun = older
    names |= {"worse", "again"}
    site.describe("worse", "again", "good", "torn")
    done = site.up()
    assert begun == ["worse"]
    assert site.steps == ["controller", "good"], "what keeps its version is not run with the new one"
    assert done.stdout.count("worse: failed\n  No. worse runs its former version again.") == 1
    assert "worse: cannot be looked at" not in done.stdout
    assert "again: failed\n  Not begun: others have failed." in done.stdout
    assert "torn: cannot be looked at\n  The connection to torn broke." in done.stdout
    assert "not all of its compute nodes are in" in done.exception.brief
    last = json.loads(site.up("--json").stdout.splitlines()[-1])["hosts"]
    assert {name for name, one in last.items() if one.get("joined")} == {"good"}
    assert last["worse"]["error"] == "No. worse runs its former version again."


def test_without_verification_nodes_are_let_in_unproven(site, hosts):
    site.describe("good")
    site.up("--skip-verify")
    assert hosts.enrolment.proof is None


def test_a_node_that_left_the_file_is_named_and_not_removed(site, hosts):
    site.describe("good")
    said = site.up().stderr
    assert "failed, old stayed as before" in said
    assert "dockstack node remove failed" in said
    assert hosts.journal.entry("old").step is Step.ENABLED
    hosts.journal.forget("old")
    hosts.journal.forget("failed")
    assert "stayed as before" not in site.up().stderr


def test_machines_read_events_and_at_the_end_what_came_of_each_node(site):
    site.describe("good", "breaks")
    events = [json.loads(line) for line in site.up("--json").stdout.splitlines()]
    assert {event["host"] for event in events[:-1]} == {"good", "breaks"}
    assert (events[-1]["hosts"]["good"]["joined"], events[-1]["hosts"]["breaks"]["joined"]) == (True, False)


@pytest.fixture
def here(site, tmp_path, monkeypatch):
    """A machine with a cloud and nodes, whose services nobody asks."""
    noted = Journal(tmp_path / "nodes")
    noted.note(Entry("twelve", "root@192.0.2.12:22", "twelve.example.org", "2026.2", Step.ENABLED))
    monkeypatch.setattr(cloud, "Journal", lambda: noted)
    monkeypatch.setattr(cloud, "require_root", lambda _: None)
    monkeypatch.setattr(cloud, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(cloud, "known_services", lambda: ())
    monkeypatch.setattr(cloud, "conditions", lambda *_: ())
    monkeypatch.setattr(cloud.root_disks, "look", lambda *_: ())

    @contextmanager
    def machine(_):
        raise DockstackError("Not in a test.", "")
        yield

    monkeypatch.setattr(cloud, "machine_here", machine)
    site.describe("twelve", "new")
    return lambda command, *options: CliRunner().invoke(command, ["--environment", str(site.path), *options])


def test_status_shows_nodes_and_which_are_not_added_yet(here):
    told = here(cloud.status).output
    assert "twelve.example.org  root@192.0.2.12:22  2026.2   enabled" in told
    assert "Not added yet: new." in told
    plain = json.loads(here(cloud.status, "--json").output)
    assert [entry["step"] for entry in plain["nodes"]] == ["enabled"]
    assert plain["nodes_missing"] == ["new"]


def test_clean_says_beforehand_which_nodes_stay(here):
    done = here(cloud.clean, "--yes")
    assert "Compute nodes are left as they are: twelve." in done.output
    assert "dockstack node remove" in done.output
