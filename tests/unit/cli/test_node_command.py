# SPDX-License-Identifier: Apache-2.0
"""`dockstack node plan`, over SSH to servers of the test's own, which are this machine with its cloud hidden."""

from __future__ import annotations

import json
import platform

import paramiko
import pytest
from click.testing import CliRunner

import cloud_files
from dockstack.cli.cloud_document import cloud
from dockstack.cli.node import node
from dockstack.deploy.join import journal, probes
from dockstack.deploy.join.journal import Entry, Journal
from dockstack.errors import DockstackError
from ssh_server import serving

pytestmark = pytest.mark.unit


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Two hosts, "up" and "down", in an environment file; the second has nobody who answers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(probes, "require_release", lambda _: None)  # nobody is there whom it could ask
    monkeypatch.setattr(probes, "require_accepted", lambda _: None)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    document = str(tmp_path / "cloud.yaml")
    files = [str(path) for path in cloud_files.write(cloud_files.KOLLA, tmp_path)]
    CliRunner().invoke(cloud, ["import", "--cloud", document, "--set", "release=2026.2", *files])
    with serving(tmp_path / "up", {"root": key}) as server:
        for hidden in ("bash", "docker", "modprobe", "ovs-vsctl", "systemctl"):
            (tmp_path / "up" / hidden).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / "up" / hidden).chmod(0o755)
        (tmp_path / "known").write_text(server.known_hosts_line)
        common = {"connector": "@ssh", "address": "127.0.0.1", "roles": ["compute"]}
        nodes = {"up": {**common, "port": server.port}, "down": {**common, "port": 1}, "me": {"roles": ["controller"]}}
        login = {"key": str(tmp_path / "id"), "known_hosts": str(tmp_path / "known")}
        nodes = {name: {**raw, **login} if name != "me" else raw for name, raw in nodes.items()}
        (tmp_path / "environment.yaml").write_text(json.dumps({"nodes": nodes}))

        def call(*options):
            line = ["plan", "--cloud", document, "--environment", str(tmp_path / "environment.yaml"), *options]
            done = CliRunner().invoke(node, line)
            if isinstance(done.exception, DockstackError):
                raise done.exception
            return done

        call.server = server
        yield call


def test_each_host_has_its_plan_and_one_that_is_down_stops_only_itself(plan):
    done = plan("--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert list(found) == ["up", "down"]
    assert found["up"]["hostname"] == platform.node()
    assert {service["name"] for service in found["up"]["services"]} >= {"nova-compute", "ovn-controller"}
    assert "cannot be reached" in found["down"]["error"]


@pytest.mark.parametrize("question", ["require_release", "require_accepted"])
def test_a_cloud_that_must_not_have_such_nodes_is_refused_before_a_host_is_asked(plan, monkeypatch, question):
    def refuse(_):
        raise DockstackError("The cloud is of 2026.1.", "Upgrade it first.")

    monkeypatch.setattr(probes, question, refuse)
    with pytest.raises(DockstackError, match=r"The cloud is of 2026\.1"):
        plan()
    assert plan.server.commands == []


def test_what_does_not_fit_is_said_by_name(plan):
    (told,) = json.loads(plan("--json", "--limit", "u*").stdout).values()
    assert not told["fits"]
    briefs = [problem["brief"] for problem in told["problems"]]
    assert [brief for brief in briefs if brief.startswith("No answer from here: ") and "10.1.0.11:5672" in brief]


def test_no_secret_is_printed_and_none_is_sent(plan, tmp_path):
    done = plan("--json", "--limit", "up")
    secrets = ("bus-pw", "nova-pw", "placement-pw", "neutron-pw", "cinder-pw", "meta-pw")
    sent = "\n".join(plan.server.commands)
    assert "nova_conf" in sent or "/etc/nova/nova.conf" in sent
    assert not [secret for secret in secrets if secret in done.output or secret in sent]


def test_people_read_it_too(plan):
    done = plan()
    assert "up (" in done.output
    assert "  - No answer from here: " in done.output
    assert "down: cannot be looked at" in done.output


def test_hosts_of_an_ansible_inventory_are_nodes_too(plan, tmp_path):
    variables = {"ansible_host": "127.0.0.1", "ansible_port": plan.server.port}
    variables |= {"ansible_ssh_private_key_file": f"{tmp_path}/id"}
    variables |= {"ansible_ssh_common_args": f"-o UserKnownHostsFile={tmp_path}/known"}
    listing = {"_meta": {"hostvars": {"theirs": variables}}, "docker_compute": {"hosts": ["theirs"]}}
    (tmp_path / "inventory.json").write_text(json.dumps(listing))
    found = json.loads(plan("--json", "--inventory", f"{tmp_path}/inventory.json", "theirs").stdout)
    assert found["theirs"]["hostname"] == platform.node()


def test_a_document_that_cannot_be_used_is_refused_before_anybody_is_asked(plan, tmp_path):
    (tmp_path / "cloud.yaml").write_text("release: '2026.2'\n")
    with pytest.raises(DockstackError, match="missing or wrong"):
        plan()
    assert plan.server.commands == []


def test_one_that_was_added_from_here_is_reached_as_then_by_its_name_alone(plan, tmp_path, monkeypatch):
    noted = Journal(tmp_path / "noted")
    noted.note(Entry("gone", f"root@127.0.0.1:{plan.server.port}", "gone.example.org", "2026.2"))
    monkeypatch.setattr(journal, "Journal", lambda: noted)
    login = ["--key", str(tmp_path / "id"), "--known-hosts", str(tmp_path / "known")]
    assert json.loads(plan("--json", *login, "gone").stdout)["gone"]["hostname"] == platform.node()
    refused = json.loads(plan("--json", *login, "nobody@gone").stdout)["gone"]["error"]
    assert "does not let nobody in" in refused, "what is said counts"
