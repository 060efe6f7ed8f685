# SPDX-License-Identifier: Apache-2.0
"""What each check finds at a machine that has one fault, and that it finds nothing at one that has none."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

from dockstack.deploy.distributions import DEBIAN_13
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.node.listeners import Listener
from dockstack.deploy.node.output import Output
from dockstack.deploy.recipes.nova import DATABASE_CONF
from dockstack.display import printable
from dockstack.doctor import controller_checks
from dockstack.doctor.checks import MACHINE, NAMES
from dockstack.doctor.cloud import Server
from dockstack.doctor.host import ANSWERED, Container, Interface, host_of
from dockstack.doctor.machine import Disk
from dockstack.doctor.model import Check, Finding, Need, examine
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

OTHER = "00000000-2c71-4bd5-9f3c-3f1f1c4c1c11"  # a server that Nova does not know
ID = "c" * 64
BROKEN = {"name": "nova-compute", "title": "Nova compute", "healthy": False, "state": "failed", "problem": "it died"}
NOVA = (
    ("service", "head", "nova-conductor", "74"),
    ("service", "one", "nova-compute", "72"),  # of the release before, which is fine
    ("mapped", "one"),
)
FAULTS = {
    "system": {"machine": {"tun": False}},
    "resources": {"machine": {"memory_mb": 900}},
    "disks": {"disks": (Disk("/var/lib", 97, 700),)},
    "cgroups": {"controllers": frozenset({"cpu", "cpuset", "pids", "io"})},
    "clock": {"facts": {"clock": -42.0}},
    "files": {"secret_modes": {"/etc/dockstack/secrets.yaml": 0o644}},
    "foreign": {"machine": {"foreign_openstack": ("/etc/nova/nova.conf",)}},
    "ports": {"machine": {"listeners": (Listener("127.0.0.1", 5672, 7, "somebody"),)}},
    "engine": {"machine": {"engine": EngineFacts()}},
    "engine-settings": {"engine": {"Swarm": {"LocalNodeState": "active"}}},
    "engine-version": {"engine": {"ServerVersion": "19.03.1"}},
    "runtime": {"engine": {"LiveRestoreEnabled": False}},
    "socket": {"socket": ("root:docker", 0o666)},
    "limits": {"engine": {"PidsLimit": False}},
    "services": {"status": {"services": [BROKEN]}},
    "driver": {"door": "error: The door is not as this dockstack would have it."},
    "conductors": {"database": (*NOVA, ("service", "two", "nova-compute", "75"), ("mapped", "two"))},
    "mapping": {"database": (*NOVA, ("service", "two", "nova-compute", "74"))},
    "switch": {"host": {"bridges": ("br-ex",)}},
    "names": {"host": {"settings": {"hostname": "one.example.org"}}},
    "ovn": {"host": {"ovn": "not connected"}},
    "mtu": {"host": {"mtus": {"192.0.2.1": 1450}}},
    "reach": {"facts": {"silent": ("10.1.0.11:5672",)}},
    "servers": {"servers": (Server("s1", "one", "ACTIVE", "", 600.0),)},
    "leftovers": {"host": {"containers": (Container(ID, f"nova-{OTHER}", OTHER),)}},
    "left-networks": {"host": {"namespaces": (OTHER,)}},
}
NOTES = {
    "engine-version": {"engine": {"ServerVersion": "29.0.0"}},
    "system": {"machine": {"distribution": DEBIAN_13}},
    "cgroups": {"cgroup": "tmpfs", "controllers": frozenset({"cpu", "cpuset", "memory", "pids", "blkio"})},
    "clock": {"clock_kept": False},
    "limits": {"engine": {"SwapLimit": False}},
    "root-disks": {"status": {"root_disks": [{"host": "", "limited": False, "text": "x"}]}},
    "installation": {"facts": {"lock": "another"}},
    "switch": {"facts": {"datapath": "netdev"}},
    "left-patches": {"host": {"patches": (f"{ID}.json", "README")}},
}


def test_nothing_is_found_where_nothing_is_wrong(healthy, found):
    assert found(healthy()) == []


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_is_found_by_its_check_alone(healthy, found, name):
    subject = healthy(**FAULTS[name])
    (finding,) = found(subject, name)
    assert not finding.note
    assert finding.brief
    assert finding.cure
    assert {each.brief for each in found(subject)} == {finding.brief}


@pytest.mark.parametrize("name", NOTES)
def test_what_a_person_should_know_is_no_fault(healthy, found, name):
    (finding,) = found(healthy(**NOTES[name]), name)
    assert finding.note


def test_each_check_of_a_machine_is_proven_here():
    assert {check.name for check in MACHINE} == set(FAULTS) | set(NOTES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("need", list(Need))
def test_what_a_check_lacks_is_said_and_not_guessed(healthy, need):
    results = examine(MACHINE, healthy(), frozenset(Need) - {need})
    skipped = [result for result in results if result.skipped]
    assert {result.skipped for result in skipped} <= {need.value}
    assert {result.check for result in skipped} == {check.name for check in MACHINE if need in check.needs}


def test_a_check_that_breaks_stops_only_itself(healthy):
    def breaks(_):
        raise KeyError("healthy")

    def refuses(_):
        raise DockstackError("Placement does not answer.", "Start it.")

    checks = [Check("one", "t", "m", breaks), Check("two", "t", "m", refuses), Check("three", "t", "m", lambda _: ())]
    one, two, three = examine(checks, healthy(), frozenset())
    assert "KeyError" in one.findings[0].brief
    assert two.findings == (Finding("Placement does not answer.", "Start it."),)
    assert three.good


def test_names_of_strangers_move_nothing_on_a_terminal(healthy, found):
    (finding,) = found(healthy(host={"interfaces": (Interface("tap\x1b[2J", error="\x1b]0;x"),)}), "switch")
    assert "\x1b" not in finding.brief


def test_a_node_that_would_keep_nova_from_starting_is_found(healthy, found):
    (finding,) = found(healthy(database=(*NOVA, ("service", "two", "nova-compute", "70"))), "conductors")
    assert "take those from 72 on" in finding.brief
    assert found(healthy(database=(("service", "one", "nova-compute", "70"),)), "conductors") == []


# -- what is left over ------------------------------------------------------------------------------------------------


def test_nothing_of_servers_that_nova_knows_is_left_over(healthy, found, server):
    there = {
        "containers": (Container(ID, f"nova-{server}", server),),
        "namespaces": (server,),
        "patches": (f"{ID}.json",),
    }
    assert found(healthy(host={**there, "interfaces": (Interface("tap1", server),)})) == []


def test_nothing_is_left_over_as_long_as_the_engine_does_not_say_what_it_has(healthy, found):
    there = {"engine": False, "namespaces": (OTHER,), "patches": (f"{ID}.json",)}
    for name in ("leftovers", "left-networks", "left-patches"):
        assert found(healthy(host=there), name) == []


def test_a_server_runs_if_its_own_container_does(healthy, found, server):
    def check(state, **values):
        known = {"id": server, "host": "one", "status": "ACTIVE", "task": "", "idle": 600.0} | values
        container = Container(ID, f"nova-{server}", server, state)
        return len(found(healthy(host={"containers": (container,)}, servers=(Server(**known),)), "servers"))

    assert (check("running"), check("exited")) == (0, 1)
    for other in ({"task": "rebooting"}, {"idle": 5.0}, {"status": "SHUTOFF"}, {"host": "two"}):
        assert check("exited", **other) == 0


HOSTILE = "x;touch\t/tmp/owned"  # an engine or a service calls what it has as it likes
TOLD = {
    "leftovers": (f"nova-{HOSTILE}", {"host": {"containers": (Container(ID, f"nova-{HOSTILE}", HOSTILE),)}}),
    "servers": (HOSTILE, {"servers": (Server(HOSTILE, "one", "ACTIVE", "", 600.0),)}),
    "services": (
        HOSTILE,
        {"status": {"services": [{"name": HOSTILE, "title": "x", "healthy": False, "state": "x", "problem": "x"}]}},
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_strangers_say_is_one_word_of_a_command_that_is_advised(healthy, found, name):
    word, seen = TOLD[name]
    (finding,) = found(healthy(**seen), name)
    assert f" {printable(shlex.quote(word))}" in finding.cure


def test_a_copy_that_somebody_runs_of_a_server_is_none(healthy, found):
    assert found(healthy(host={"containers": (Container(ID, "somebodys", OTHER),)}), "leftovers") == []


def test_a_server_with_a_container_keeps_its_network(healthy, found):
    there = {"containers": (Container(ID, f"nova-{OTHER}", OTHER),), "namespaces": (OTHER,)}
    assert found(healthy(host=there), "left-networks") == []


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A connection to this machine, on which these programs are the test's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    class Shell:
        def run(self, line, stdin, timeout):
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
            return Output(done.returncode == 0, done.stdout, done.stderr)

        def program(self, name, text):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)

    return Shell()


MENDED = {
    "nobody has it": (":", ":", True),
    "it has a container by now": ("echo abc", ":", False),
    "the engine does not answer": ("exit 1", ":", False),
    "a process is inside": (":", "echo 4711", False),
}


@pytest.mark.parametrize("case", MENDED)
def test_a_namespace_goes_only_if_nobody_has_it(healthy, found, shell, tmp_path, case):
    containers, processes, mended = MENDED[case]
    shell.program("docker", containers)
    shell.program("ip", f'case "$2" in pids) {processes};; *) echo "$@" >> {tmp_path}/done;; esac')
    (finding,) = found(healthy(host={"namespaces": (OTHER,)}, connection=shell), "left-networks")
    if mended:
        finding.mend.act()
        assert (tmp_path / "done").read_text() == f"netns delete nova-{OTHER}\n"
    else:
        with pytest.raises(DockstackError, match="It failed"):
            finding.mend.act()
        assert not (tmp_path / "done").exists()


# -- what a host says -------------------------------------------------------------------------------------------------


def test_what_a_host_says_is_understood(server):
    rows = [
        ["tap1", ["map", [["vm-uuid", server], ["iface-id", "p"]]], ["set", []]],
        ["tap2", ["map", [["vm-uuid", "; reboot"]]], "could not open network device tap2"],
    ]
    told = host_of(
        "host2",
        {
            "nova": ["one-2"],
            "containers": [f"{ID} nova-{server} {server} exited", ANSWERED],
            "namespaces": [f"nova-{server}", "nova-thing", "dockstack-host2"],
            "settings": [json.dumps({"headings": ["external_ids"], "data": [[["map", [["hostname", "one-2"]]]]]})],
            "bridges": ["br-int"],
            "interfaces": [json.dumps({"headings": ["name", "external_ids", "error"], "data": rows})],
            "ovn": ["connected"],
            "addresses": [json.dumps([{"mtu": 1450, "addr_info": [{"local": "192.0.2.7"}]}, {}])],
            "patches": [f"{ID}.json"],
        },
    )
    assert told.containers == (Container(ID, f"nova-{server}", server, "exited"),)
    assert told.namespaces == (server,)
    assert told.interfaces == (Interface("tap1", server), Interface("tap2", "", "could not open network device tap2"))
    assert (told.switch, told.engine, told.settings, told.mtus) == (
        True,
        True,
        {"hostname": "one-2"},
        {"192.0.2.7": 1450},
    )


def test_a_host_that_says_nothing_is_understood():
    told = host_of("", {"containers": [], "interfaces": ["no json"], "addresses": ["nor this"]})
    assert (told.switch, told.engine, told.mtus, told.nova) == (False, False, {}, "")


def test_an_unmapped_host_is_mapped_by_a_command_that_knows_the_database(healthy):
    """Nova's default files name none on a controller: nova-compute reads them, too, and would refuse to start."""
    (finding,) = controller_checks.mapping(healthy(**FAULTS["mapping"]))
    assert finding.brief.startswith("The compute host two is mapped")
    assert f"--config-file {DATABASE_CONF} cell_v2 discover_hosts" in finding.cure
