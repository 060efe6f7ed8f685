# SPDX-License-Identifier: Apache-2.0
"""Which engine a node's servers run in where nobody has said so."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import replace

import pytest

import cloud_files
from dockstack.deploy import paths
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.join import engine_choice, look, service_files
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.engine_choice import Engines, settled
from dockstack.deploy.join.survey import survey
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
OTHERS = ("web", "db", "cache", "mail")


@pytest.fixture
def program(server, tmp_path):
    """Put a program onto the machine; what it prints depends on a word of its command."""

    def place(name, **answers):
        cases = "".join(f'*" {word} "*) printf %s {shlex.quote(text)} ;;\n' for word, text in answers.items())
        (tmp_path / "stubs" / name).write_text(f'#!/bin/sh\ncase " $* " in {cases} *) exit 1 ;; esac\n')
        (tmp_path / "stubs" / name).chmod(0o755)

    for name in ("bash", "docker", "modprobe", "ovs-vsctl", "systemctl"):
        place(name)
    return place


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Let the machine have been told something, in a place of the test's own."""
    path = tmp_path / "commission.json"
    monkeypatch.setattr(look, "TOLD", look.TOLD.replace(paths.COMMISSION, str(path)))
    return lambda node, cloud: path.write_text(commission(node, cloud, "10.1.0.31").text())


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Let the machine have an engine that runs, or containers of one; it answers by the program."""
    pidfile, root = tmp_path / "docker.pid", tmp_path / "docker"
    monkeypatch.setattr(engine_choice, "PIDFILE", str(pidfile))
    monkeypatch.setattr(engine_choice, "MACHINES_DATA_ROOT", str(root))
    (tmp_path / "dockerd").symlink_to(shutil.which("sleep"))  # the kernel names a process after the file that it runs
    started = []

    def have(*, running, containers):
        (root / "containers" / ("abc" if containers else "")).mkdir(parents=True, exist_ok=True)
        pidfile.unlink(missing_ok=True)
        if running:
            started.append(subprocess.Popen([str(tmp_path / "dockerd"), "60"]))
            pidfile.write_text(f"{started[0].pid}\n")

    yield have
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def bare(cloud):
    """A cloud that no deployer looks after."""
    return cloud.and_then(SourceValues("test", {"deployer": ""}))


def own(node):
    setting = node.attributes.setting("docker.own")
    return setting.source if setting.value else ""


@pytest.mark.parametrize(
    ("engines", "why"),
    [
        (Engines(), ""),
        (Engines(file=""), ""),
        (Engines(file="{}"), ""),
        (Engines(others=("web",)), "the machine's runs containers of others: web"),
        (Engines(others=OTHERS), "the machine's runs containers of others: web, db, cache ..."),
        (Engines(others=("nova_libvirt",), kolla=True), "the machine's runs Kolla's containers: nova_libvirt"),
        (Engines(swarm=True), "the machine's is in a swarm"),
        (Engines(file='{"log-driver": "journald"}'), "/etc/docker/daemon.json is somebody else's"),
        (Engines(file="{"), "/etc/docker/daemon.json is somebody else's"),
        # Whatever else the machine tells, servers are where the node was told that they are.
        (Engines(told=False, others=OTHERS, file="{"), ""),
        (Engines(told=True), "it was added with one"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_an_engine_that_is_somebody_elses_is_left_to_him(bare, compute, engines, why):
    node = settled(compute(), engines, bare)
    assert own(node) == why
    assert engine_of(node.attributes).own == bool(why)


@pytest.mark.parametrize("deployer", ["Kolla-Ansible", "OpenStack-Ansible"])
def test_machines_of_a_deployer_have_one_of_our_own_even_before_he_has_been_there(cloud, compute, deployer):
    document = cloud.and_then(SourceValues("test", {"deployer": deployer}))
    assert own(settled(compute(), Engines(), document)).startswith(deployer)
    assert own(settled(compute(), Engines(told=False), document)) == ""


@pytest.mark.parametrize("said", ["true", "false"])
def test_who_says_what_he_wants_gets_it(cloud, compute, said):
    document = cloud.and_then(SourceValues("test", {"deployer": "Kolla-Ansible"}))
    for engines in (Engines(), Engines(others=OTHERS), Engines(told=True), Engines(told=False)):
        chosen = settled(compute(f"docker.own={said}"), engines, document)
        assert chosen.attributes.flag("docker.own") == (said == "true")
        assert chosen.attributes.setting("docker.own").source == "command line"


def test_who_names_a_socket_has_chosen_the_engine_there(bare, compute):
    node = compute("docker.socket=/run/theirs.sock")
    assert settled(node, Engines(others=OTHERS), bare) is node
    assert own(settled(node, Engines(told=True), bare)) == "it was added with one"


def test_a_machine_tells_whose_its_engine_is(program, told, connected):
    server = "web 7e2b0dd8-2c71-4bd5-9f3c-3f1f1c4c1c11/\n"
    assert engine_choice.ask(connected).others == ()
    program("docker", ps=f"{server}nova_libvirt /20.1\ncron /\n", info="inactive\n")
    found = engine_choice.ask(connected)
    assert (found.told, found.others, found.kolla, found.swarm) == (None, ("nova_libvirt", "cron"), True, False)
    program("docker", ps=server, info="active\n")
    found = engine_choice.ask(connected)
    assert (found.others, found.kolla, found.swarm) == ((), False, True)


@pytest.mark.parametrize(
    ("answers", "silent"),
    [
        ({"running": "dockerd", "client": "/usr/bin/docker"}, True),
        ({"kept": "abc", "client": "/usr/bin/docker"}, True),
        ({"kept": "abc", "running": "dockerd"}, True),
        ({"kept": "abc"}, True),
        ({"running": "dockerd"}, False),
        ({"client": "/usr/bin/docker"}, False),
        ({}, False),
        ({"containers": "answered", "running": "dockerd", "client": "/usr/bin/docker", "kept": "abc"}, False),
    ],
    ids=["hangs", "stopped", "no-client", "removed", "fresh-without-client", "fresh", "none", "answers"],
)
def test_an_engine_that_says_nothing_is_nobodys_only_if_it_is_fresh(compute, answers, silent):
    told = {name: [answers[name]] if name in answers else [] for name in engine_choice.questions(compute())}
    assert engine_choice.parse(told) == Engines(silent=silent)


def test_a_machine_tells_whether_its_engine_is_silent(program, engine, connected):
    assert not engine_choice.ask(connected).silent
    engine(running=False, containers=False)
    assert not engine_choice.ask(connected).silent
    engine(running=True, containers=False)
    assert engine_choice.ask(connected).silent, "it runs, and the client fails"
    engine(running=False, containers=True)
    assert engine_choice.ask(connected).silent, "it has containers"
    program("docker", ps="", info="inactive\n")
    assert not engine_choice.ask(connected).silent


def test_whose_a_silent_engine_is_must_be_said(bare, compute):
    silent = Engines(silent=True)
    with pytest.raises(DockstackError, match=r"engine of \S+ does not answer") as refused:
        settled(compute(), silent, bare)
    assert "docker.own: true" in refused.value.resolution
    for said in ("docker.own=true", "docker.own=false", "docker.socket=/run/theirs.sock"):
        node = compute(said)
        assert settled(node, silent, bare) is node
    assert own(settled(compute(), replace(silent, file="{"), bare)), "whose it is can be told"
    assert own(settled(compute(), replace(silent, told=True), bare))
    assert not own(settled(compute(), replace(silent, told=False), bare))


def test_a_machine_tells_what_it_was_told(told, connected, compute, cloud):
    for said in (True, False):
        told(compute(f"docker.own={str(said).lower()}"), cloud)
        assert engine_choice.ask(connected).told is said


def test_a_machine_whose_engine_is_somebody_elses_is_looked_at_and_told_so(program, told, connected, bare):
    program("docker", ps="cron /\n", info="inactive\n")
    looked = survey(connected.node, bare)
    assert looked.plan.engine == (
        "of dockstack's own, /run/dockstack/docker.sock (the machine's runs containers of others: cron)"
    )
    assert looked.told.attributes["docker.own"] is True
    assert "/etc/dockstack/docker.json" in {change.path for change in looked.plan.files}
    assert "/etc/docker/daemon.json" not in {change.path for change in looked.plan.files}


def test_another_engine_than_a_node_has_is_refused(program, told, connected, compute, bare):
    told(compute("docker.own=true"), bare)
    assert survey(connected.node, bare).plan.engine.endswith("(it was added with one)")
    told(compute(), bare)
    node = connected.node
    wanted = node.attributes.with_value("docker.own", value=True, source="test")
    plan = survey(type(node)(**{**vars(node), "attributes": wanted}), bare).plan
    assert "What is here has the machine's engine" in " ".join(problem.brief for problem in plan.problems)


def test_a_file_with_kollas_log_directory_is_kollas(tmp_path):
    (nova, *_) = cloud_files.write(cloud_files.KOLLA, tmp_path)
    text = nova.read_text()
    assert "deployer" not in {key for one in service_files.told_by("x", text).sources for key in one.values}
    kollas = text.replace("[DEFAULT]", "[DEFAULT]\nlog_dir = /var/log/kolla/nova", 1)
    assert {"deployer": "Kolla-Ansible"} in [one.values for one in service_files.told_by("x", kollas).sources]
