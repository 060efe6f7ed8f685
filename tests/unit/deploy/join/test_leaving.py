# SPDX-License-Identifier: Apache-2.0
"""A node leaves its cloud and its machine, over SSH to a server of the test's own; what must stay is refused."""

from __future__ import annotations

import subprocess

import pytest

from dockstack.deploy.administration import api
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.join.journal import Entry, Journal, Step
from dockstack.deploy.join.leaving import Leaving, Left
from dockstack.deploy.join.node_certificate import NodeCertificates
from dockstack.deploy.join.peers import Peer, Peers
from dockstack.errors import DockstackError
from fake_cloud import administered

pytestmark = pytest.mark.unit


@pytest.fixture
def fake(tmp_path, monkeypatch):
    with administered(tmp_path, monkeypatch) as cloud:
        cloud.add_host("one.example.org")
        yield cloud


@pytest.fixture
def machine(tmp_path):
    """The node's machine: its dockstack notes what it is told, and removes what `clean` removes."""
    etc, opt = tmp_path / "etc", tmp_path / "opt"
    (opt / "bin").mkdir(parents=True)
    etc.mkdir()
    (etc / "commission.json").write_text("{}")
    program = opt / "bin" / "python"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/said\ncase "$*" in *clean*) rm -rf {etc} {opt} ;; esac\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def leaving(fake, machine):
    journal = Journal(machine / "nodes")
    journal.note(Entry("one", "root@one:22", "one.example.org", "2026.2", Step.DRAINED))
    roots = (str(machine / "etc"), str(machine / "var"), str(machine / "opt"))
    command_line = CommandLine(
        str(machine / "opt"), str(machine / "uv"), str(machine / "state"), str(machine / "guard")
    )
    (provider,) = fake.providers
    identity = machine / "compute_id"
    identity.write_text(f"{provider}\n")
    return Leaving(
        *(api.connect("dockstack"), command_line, journal, Peers(machine / "peers")),
        *(NodeCertificates(directory=str(machine / "tls")), roots, str(identity), str(machine / "guard")),
    )


def said(machine):
    file = machine / "said"
    return file.read_text().splitlines() if file.exists() else []


def test_nova_compute_ends_before_its_record_and_that_before_anything_is_removed(leaving, connected, machine, fake):
    order = []
    delete = fake.delete_service

    def noting(_, query, body, service):
        order.append(len(said(machine)))
        return delete(query, body, service)

    fake.ROUTES = tuple((m, p, noting if do is type(fake).delete_service else do) for m, p, do in fake.ROUTES)
    told = []
    leaving.peers.note("one", Peer("10.1.0.31", "ssh-ed25519 A", "ssh-ed25519 B"))
    certificate = machine / "tls" / "one.pem"
    certificate.parent.mkdir()
    certificate.write_text("with its key")
    assert leaving.leave(connected.node, told.append, packages=True) == Left("one.example.org", changed=True)
    assert said(machine) == ["-m dockstack.cli down", "-m dockstack.cli clean --yes --packages"]
    assert order == [1]
    assert (fake.services, fake.mapped, fake.providers, fake.agents) == ({}, set(), {}, {})
    assert leaving.journal.entries() == ()
    assert leaving.peers.all() == ()
    assert not certificate.exists()
    assert told[0] == "Having nothing more placed on it"


def test_one_with_servers_is_left_as_it_is(leaving, connected, machine, fake):
    fake.add_server("web", "one.example.org")
    with pytest.raises(DockstackError, match=r"1 servers on one\.example\.org"):
        leaving.leave(connected.node, lambda _: None)
    assert said(machine) == []
    assert fake.changes() == []


def test_one_that_gets_a_server_in_the_last_moment_keeps_it(leaving, connected, machine, fake):
    update = fake.update_service

    def late(_, query, body, service):
        answer = update(query, body, service)
        fake.add_server("late", "one.example.org")
        return answer

    fake.ROUTES = tuple((m, p, late if do is type(fake).update_service else do) for m, p, do in fake.ROUTES)
    with pytest.raises(DockstackError, match="late"):
        leaving.leave(connected.node, lambda _: None)
    assert said(machine) == []


def test_a_run_that_was_killed_anywhere_is_begun_again(leaving, connected, machine, fake, monkeypatch):
    for fatal in ("down", "clean"):
        server_says = machine / "opt" / "bin" / "python"
        kept = server_says.read_text()
        server_says.write_text(f'#!/bin/sh\ncase "$*" in *{fatal}*) echo killed >&2; exit 137 ;; esac\n')
        with pytest.raises(DockstackError, match=f"`dockstack {fatal}` on one failed") as refused:
            leaving.leave(connected.node, lambda _: None)
        assert refused.value.details == "killed"
        assert leaving.journal.entry("one").step is Step.REMOVING
        server_says.write_text(kept)
    assert "one.example.org" not in fake.services, "its record went before `clean`"
    assert leaving.leave(connected.node, lambda _: None).changed
    assert leaving.leave(connected.node, lambda _: None).changed is False


def test_what_a_killed_run_has_left_at_work_comes_to_its_end_first(leaving, connected, machine):
    told, ended = [], machine / "ended"
    work = f"flock {machine}/guard sh -c 'echo begun; sleep 0.5; touch {ended}'"
    with subprocess.Popen(["sh", "-c", work], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        leaving.leave(connected.node, lambda text: told.append((text, ended.exists())))
    assert told[:2] == [
        ("Waiting until the command ends that is at work there", False),
        ("Having nothing more placed on it", True),
    ]


def test_a_machine_that_only_has_the_name_of_a_host_is_refused(leaving, connected, machine, fake):
    (machine / "compute_id").write_text("22222222-2222-4222-8222-222222222222\n")
    with pytest.raises(DockstackError, match=r"one is not the host one\.example\.org of the cloud"):
        leaving.leave(connected.node, lambda _: None)
    (machine / "compute_id").unlink()
    with pytest.raises(DockstackError, match="another machine is"):
        leaving.leave(connected.node, lambda _: None)
    assert (said(machine), fake.changes()) == ([], [])


def test_one_that_was_cleaned_by_hand_is_forgotten_when_it_reports_no_more(leaving, connected, machine, fake):
    for path in ("etc/commission.json", "compute_id", "opt/bin/python"):
        (machine / path).unlink()
    for path in ("etc", "opt/bin", "opt"):
        (machine / path).rmdir()
    fake.services["one.example.org"]["state"] = "down"
    assert leaving.leave(connected.node, lambda _: None).changed
    assert (fake.services, fake.providers, fake.agents) == ({}, {}, {})


def test_a_machine_that_has_a_whole_cloud_is_refused(leaving, connected, machine, fake):
    (machine / "etc" / "secrets.yaml").write_text("")
    with pytest.raises(DockstackError, match="holds a cloud that `dockstack up` made"):
        leaving.leave(connected.node, lambda _: None)
    assert said(machine) == []
    assert fake.changes() == []


def test_a_command_line_that_somebody_has_installed_is_none_of_a_node(leaving, connected, machine, fake):
    leaving.journal.forget("one")
    (machine / "etc" / "commission.json").unlink()
    fake.services.clear()
    leaving.leave(connected.node, lambda _: None)
    assert said(machine) == []


def test_a_dead_node_is_forgotten_without_its_machine(leaving, connected, server, fake):
    with pytest.raises(DockstackError, match="it is not lost"):
        leaving.give_up(connected.node, lambda _: None)
    fake.services["one.example.org"]["state"] = "down"
    server.close()
    assert leaving.give_up(connected.node, lambda _: None) == Left("one.example.org", changed=True)
    assert (fake.services, fake.providers, fake.agents) == ({}, {}, {})
    assert leaving.give_up(connected.node, lambda _: None).changed is False
