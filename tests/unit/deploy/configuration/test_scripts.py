# SPDX-License-Identifier: Apache-2.0
"""Shell scripts: shellcheck reads all of them, and those of the external network run with commands that only note."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dockstack.deploy.configuration import extra_hosts, scripts
from dockstack.deploy.hypervisors import storage
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.run import teardown
from dockstack.deploy.wanted.hosts import ExtraHost

pytestmark = pytest.mark.unit

CHECKOUT = Path(__file__).resolve().parents[4]
SHELLCHECK = Path(sys.executable).parent / "shellcheck"
SECOND = ExtraHost("host2", "node-2.example.org", "198.19.77.2/24", "198.19.77.1/24")
# Writes its own name and arguments down; a rule is never there yet, and the switch knows no option.
NOTE = """#!/bin/sh
printf '%s %s\\n' "${0##*/}" "$*" >> "$NOTES"
case "${0##*/} $*" in *" -C "*) exit 1 ;; esac
"""


def of_the_repository() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    files = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and _is_shell(path)]


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".sh" or file.readline(80).strip() in (
            b"#!/bin/sh",
            b"#!/bin/bash",
            b"#!/usr/bin/env bash",
        )


def test_shellcheck_has_no_complaint_about_any_script_of_the_repository():
    found = of_the_repository()
    assert len(found) > 12
    done = subprocess.run([SHELLCHECK, *found], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nor_about_one_that_is_filled_in(settings, tmp_path):
    rendered = {**scripts.all_scripts(settings), **extra_hosts.all_scripts(settings, SECOND, "/var/lib/docker", "/x")}
    files = []
    for path, text in rendered.items():
        files.append(tmp_path / path.strip("/").replace("/", "-"))
        files[-1].write_text(text)
    line = [SHELLCHECK, "--exclude=SC2043,SC2050", *files]  # a loop over one word, a comparison of two constants
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def changes(one):
    """What a run does to a node with more than one plain command, with names that need quotes."""
    yield lambda: one.directory("/srv/it's", owner="nova")
    yield lambda: one.file("/etc/it's", "text")
    yield lambda: one.link("/usr/local/bin/x", "/opt/it's")
    yield lambda: one.absent("/srv/it's")
    yield lambda: one.user("nova", home="/var/lib/nova", groups=("docker",))
    yield lambda: one.packages("curl")
    yield one._restore_policy
    volume = replace(storage.wanted(one.attributes), mount_point="/srv/it's")
    yield lambda: storage.provide(one, volume)
    yield lambda: storage._make(one, volume)
    yield lambda: storage.remove(one, volume.mount_point)
    yield lambda: host_removal.remove_namespaces(one, "host2")
    yield lambda: host_removal.remove_network(one)
    for verbs in (teardown._WHILE_RUNNING, teardown._AFTERWARDS):
        yield lambda verbs=verbs: teardown._remove(one, one.manifest.entries(), verbs)


@pytest.mark.parametrize("answers", [{}, {"": {"success": False}}], ids=["all succeeds", "all fails"])
def test_nor_about_the_commands_that_python_puts_together(machine, tmp_path, answers):
    one = machine(answers, "docker.storage=btrfs", "docker.storage_gb=8")
    one.manifest.made("file", "/etc/it's", backup="/var/it's")
    for kind in ("directory", "metadata-namespaces", "user", "masquerade", "bridge", "held-unit", "host"):
        one.manifest.made(kind, "host2")
    for change in changes(one):
        with suppress(StepFailedError):
            change()
    files = []
    for number, command in enumerate(sorted(set(one.commands))):
        files.append(tmp_path / f"{number}.sh")
        files[-1].write_text(f"#!/bin/sh\n{command}\n")
    assert len(files) > 15
    line = [SHELLCHECK, "--severity=info", *files]  # one of pyinfra's is not in the best style
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_python_holds_no_shell_scripts():
    with_heads = [
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "src").glob("**/*.py")
        if "set -eu" in path.read_text() or "<<EOF" in path.read_text()
    ]
    assert not with_heads, "scripts stand in files that shellcheck reads"


def test_values_are_quoted():
    hostile = "x'; touch /tmp/gone; '"
    text = scripts.render(
        "prepare-external-bridge",
        bridge=hostile,
        datapath="system",
        gateway="g",
        cidr="c",
        masquerade="no",
        engine_bridges=("a", "b"),
    )
    assert f"\nbridge={shlex.quote(hostile)}\n" in text
    assert "\nengine_bridges='a b'\n" in text


def test_a_parameter_that_is_missing_or_unknown_is_a_fault():
    with pytest.raises(ValueError, match="has the parameters"):
        scripts.render("prepare-ovsdb", bridge="br-ex")
    with pytest.raises(ValueError, match="has the parameters"):
        scripts.render("prepare-external-bridge", bridge="br-ex")


def test_a_word_with_a_space_would_become_two():
    with pytest.raises(ValueError, match="has a space"):
        scripts.render("prepare-ovs-vswitchd", datapath="", settings=("a b",), chassis_options="", bridges=())


@pytest.fixture
def run(tmp_path):
    """Run a script with stand-ins for what would change the machine; return what it called."""
    for name in ("ovs-vsctl", "ovs-vswitchd", "ip", "iptables", "sysctl", "modprobe", "ethtool", "nsenter"):
        stand_in = tmp_path / name
        stand_in.write_text(NOTE)
        stand_in.chmod(0o755)

    def go(text: str) -> list[str]:
        notes = tmp_path / "notes"
        notes.write_text("")
        environment = {"PATH": f"{tmp_path}:{os.defpath}", "NOTES": str(notes)}
        subprocess.run(["sh"], input=text, text=True, env=environment, check=True, capture_output=True)
        return notes.read_text().splitlines()

    return go


def test_the_bridge_has_the_gateways_address(settings, run):
    called = run(scripts.external_bridge(settings))
    assert any(line.startswith("ovs-vsctl") and "datapath_type=netdev external-ids:" in line for line in called)
    assert called[1:3] == ["ip address replace 198.51.100.1/24 dev br-ex", "ip link set br-ex up"]


def test_nat_follows_the_attribute_and_every_rule_is_marked(settings, run):
    called = run(scripts.external_bridge(settings))
    rules = [line for line in called if line.startswith("iptables")]
    assert len(rules) == 10
    assert all(line.endswith(" -m comment --comment dockstack") for line in rules)
    assert rules[0::2] == [line.replace(" -I ", " -C ") for line in rules[1::2]]
    assert "iptables -w -t nat -I POSTROUTING -s 198.51.100.0/24 ! -d 198.51.100.0/24 -j MASQUERADE" in rules[1]
    without = replace(settings, networks=replace(settings.networks, masquerade=False))
    assert not [line for line in run(scripts.external_bridge(without)) if line.startswith(("iptables", "sysctl"))]


def test_of_other_containers_servers_reach_what_those_have_published_only(settings, run):
    inserted = [line.partition(" -I ")[2] for line in run(scripts.external_bridge(settings)) if " -I " in line]
    last_inserted_first = [line for line in reversed(inserted) if line.startswith("FORWARD")]
    verdicts = [(line.split()[1:5], line.partition(" -j ")[2].split()[0]) for line in last_inserted_first]
    assert verdicts[0] == (["-o", "br-ex", "-j", "ACCEPT"], "ACCEPT")
    assert verdicts[1] == (["-i", "br-ex", "-o", "br-+"], "DROP")
    assert verdicts[2] == (["-i", "br-ex", "-o", "docker+"], "DROP")
    assert verdicts[3] == (["-i", "br-ex", "-j", "ACCEPT"], "ACCEPT")


def test_the_switch_is_told_of_its_chassis_and_offers_what_nobody_has_set_yet(settings, run):
    called = run(scripts.open_vswitch_configuration(settings))
    assert not any(line.startswith("modprobe") for line in called)
    told = next(line for line in called if " init " in line)
    assert "external-ids:system-id=node1" in told.split()
    assert "other_config:userspace-tso-enable=true" in told.split()
    assert called[-1].endswith("set Open_vSwitch . external-ids:ovn-cms-options=enable-chassis-as-gw")
    plain = run(scripts.open_vswitch_configuration(replace(settings, datapath="system", gateway_chassis=False)))
    assert plain[0] == "modprobe openvswitch"
    assert not any("ovn-cms-options" in line for line in plain)


def test_a_hosts_switch_is_joined_and_shut_off_from_forwarding(settings, run):
    called = run(extra_hosts.prepare_cables(settings, SECOND))
    assert "ip link show dsh2-hosts" in called
    assert "ip address replace 198.19.77.1/24 dev br-hosts" in called
    assert "ethtool -K br-ex tx off" in called
    drops = [line for line in called if line.startswith("iptables -w -I")]
    assert [line.split()[4:6] for line in drops] == [["-i", "br-hosts"], ["-o", "br-hosts"]]
    called = run(extra_hosts.bridges(settings, SECOND))
    assert "ip address replace 198.19.77.2/24 dev br-hosts" in called


@pytest.mark.parametrize(
    ("script", "directory", "database"),
    [("prepare-ovsdb", "/etc/openvswitch", "conf.db"), ("prepare-ovn-database", "/var/lib/ovn", "ovnnb_db.db")],
)
def test_what_a_killed_making_of_a_database_left_is_no_obstacle(tmp_path, script, directory, database):
    for name, body in (("install", ":"), ("ovsdb-tool", 'test ! -e "$2" && echo new > "$2"')):  # it overwrites nothing
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / f"{database}.new").write_text("torn")
    text = scripts.render(script).replace(directory, str(tmp_path))
    environment = {"PATH": f"{tmp_path}:{os.defpath}"}
    subprocess.run(["sh", "-s", "nb"], input=text, text=True, env=environment, check=True, capture_output=True)
    assert (tmp_path / database).read_text() == "new\n"
    assert not (tmp_path / f"{database}.new").exists()
