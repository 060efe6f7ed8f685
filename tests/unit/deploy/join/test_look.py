# SPDX-License-Identifier: Apache-2.0
"""The questions, asked of this machine; programs that would tell of a cloud on it are hidden."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from dockstack.deploy.distributions import DEBIAN_12, recognise
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.join import look
from dockstack.deploy.join.look import Questions
from dockstack.deploy.node import connection
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
HIDDEN = ("bash", "docker", "modprobe", "ovs-vsctl", "systemctl")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program before all others of its name: one that prints something, or one that fails."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def place(name, output=None, unless="-no-such-word-"):
        """``unless``: a word with which it fails."""
        line = "exit 1" if output is None else f"printf %s {shlex.quote(output)}"
        line = f'case " $* " in *" {unless} "*) exit 1 ;; esac; {line}'
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    for name in HIDDEN:
        place(name)
    return place


@pytest.fixture
def here():
    return connection.connect(inventory.load(None).local)


def asked():
    """The names of all questions, as the answers have them."""
    return [line.split("'")[1] for line in look.script(Questions()).splitlines() if line.startswith("echo; echo '@@")]


QUESTIONS = Questions(packages=("dpkg", "no-such-package"), services=("nova-compute",), endpoints=(("127.0.0.1", 1),))


def test_a_machine_tells_what_it_is_like(program, here):
    facts = look.gather(here, QUESTIONS)
    assert facts.hostname == platform.node()
    assert facts.machine.python >= (3, 9)
    assert facts.machine.package_manager
    assert facts.machine.distribution is DEBIAN_12
    assert facts.machine.memory_mb > 100
    assert set(facts.machine.disk_mb) == {"/opt", "/var/lib"}
    assert facts.source == "127.0.0.1"
    assert facts.clock == 0
    assert "no-such-package" not in facts.packages
    assert facts.packages.get("dpkg", "") != ""
    assert facts.silent == ("127.0.0.1:1",)
    assert (facts.active, facts.servers, facts.chassis) == (frozenset(), 0, "")


def test_what_runs_there_is_seen(program, here):
    uuid = "7e2b0dd8-2c71-4bd5-9f3c-3f1f1c4c1c11"
    program("systemctl", "")
    program("ovs-vsctl", '"one.example.org"\n')
    program("docker", f"abc nova-{uuid} {uuid}\ndef somebodys-copy {uuid}\n", unless="info")
    facts = look.gather(here, QUESTIONS)
    assert facts.active == {"nova-compute"}
    assert facts.chassis == "one.example.org"
    assert facts.servers == 1


def test_a_switch_in_a_container_is_asked_as_well(program, here):
    program("ovs-vsctl")
    program("docker", '"in-a-container"\n', unless="external-ids:hostname")
    facts = look.gather(here, QUESTIONS)
    assert (facts.chassis, facts.chassis_id) == ("", "in-a-container")
    program("docker", '"one.example.org"\n', unless="external-ids:system-id")
    facts = look.gather(here, QUESTIONS)
    assert (facts.chassis, facts.chassis_id) == ("one.example.org", "")


@pytest.mark.parametrize(("running", "seen"), [("nova-compute", True), ("nova-compute-2", False)])
def test_a_running_nova_compute_is_seen_whoever_started_it(program, here, tmp_path, running, seen):
    text = look.script(QUESTIONS).replace("/proc/[0-9]*/comm", str(tmp_path / "comm"))
    (tmp_path / "comm").write_text(f"{running}\n")
    answer = here.run(text, None, 30)
    assert look.parse(answer.stdout, DEBIAN_12, 0, time.time()).nova_compute is seen


@pytest.mark.parametrize(("told", "apart"), [(9.0, -1.0), (10.0, 0.0), (12.5, 0.0), (15.0, 0.0), (75.0, 60.0)])
def test_a_clock_counts_as_wrong_only_as_far_as_is_sure(told, apart):
    text = "\n".join(line for name in asked() for line in ([name, str(told)] if name == "@@clock" else [name]))
    assert look.parse(text, DEBIAN_12, began=10, ended=15).clock == apart


def test_an_engine_tells_what_it_is_like(program, here):
    program("docker", '{"ServerVersion": "20.10", "CgroupDriver": "cgroupfs"}', unless="ps")
    assert look.gather(here, QUESTIONS).machine.engine.info["CgroupDriver"] == "cgroupfs"
    program("docker", '{"ServerErrors": ["Cannot connect"]}', unless="ps")
    assert look.gather(here, QUESTIONS).machine.engine.info == {}


def test_a_machine_says_what_it_is(here):
    assert recognise(look.os_release(here)) == recognise(Path("/etc/os-release").read_text())


def test_who_answers_is_not_silent(program, here):
    program("bash", "")
    assert look.gather(here, QUESTIONS).silent == ()


def test_files_are_read_with_owner_and_mode(here, tmp_path):
    (tmp_path / "a b").write_text("one\ntwo 'quoted' ä\n")
    (tmp_path / "a b").chmod(0o640)
    (tmp_path / "empty").touch()
    wanted = [str(tmp_path / name) for name in ("a b", "absent", "empty")]
    found = look.read(here, wanted)
    assert set(found) == {wanted[0], wanted[2]}
    assert found[wanted[0]].content == "one\ntwo 'quoted' ä\n"
    assert found[wanted[0]].mode == 0o640
    assert found[wanted[0]].owner == (tmp_path / "a b").owner()
    assert found[wanted[2]].content == ""


def test_a_machine_that_hangs_is_named(here, monkeypatch):
    monkeypatch.setattr(look, "LIMIT", 1)
    with pytest.raises(DockstackError, match="local does not answer all questions within 1 s"):
        look.ask(here, "sleep 30; :")


def test_the_script_is_one_that_a_plain_shell_reads():
    text = look.script(QUESTIONS)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


def test_an_answer_of_nothing_is_understood():
    facts = look.parse("\n".join(asked()), DEBIAN_12, time.time(), time.time())
    assert not facts.machine.package_manager
    assert facts.machine.engine == EngineFacts(by_flags=True)
    assert facts.datapath == "netdev"
