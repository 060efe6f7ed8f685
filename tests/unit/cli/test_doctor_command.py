# SPDX-License-Identifier: Apache-2.0
"""`dockstack doctor --host`, over SSH to a server of the test's own, which is this machine with its cloud hidden."""

from __future__ import annotations

import json
import os
import platform

import paramiko
import pytest
from click.testing import CliRunner

import cloud_files
from dockstack.cli import doctor as command
from dockstack.cli.cloud_document import cloud
from dockstack.cli.doctor import doctor
from dockstack.deploy import paths
from dockstack.doctor import machine
from dockstack.doctor.checks import NAMES
from ssh_server import serving

pytestmark = pytest.mark.unit

HIDDEN = ("bash", "docker", "modprobe", "ovs-vsctl", "ovn-appctl", "systemctl")
SECRETS = ("bus-pw", "nova-pw", "placement-pw", "neutron-pw", "cinder-pw", "meta-pw", "up-secret", "proxy-pw")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Visit two hosts: one is this machine, the other has nobody who answers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OS_CLOUD", "a-cloud-that-nobody-has")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for name in ("STATE_DIRECTORY", "LOCK_MARKER", "CLI_VENV", "SECRETS_FILE", "ETC"):
        monkeypatch.setattr(paths, name, str(tmp_path / name))
    monkeypatch.setattr(machine, "EXTRA_HOSTS", tmp_path / "hosts")
    monkeypatch.setattr(machine, "SECRET_FILES", (str(tmp_path / "secrets.yaml"),))
    (tmp_path / "secrets.yaml").write_text("nova: up-secret\n")  # somebody's
    (tmp_path / "secrets.yaml").chmod(0o604)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    document = str(tmp_path / "cloud.yaml")
    files = [str(path) for path in cloud_files.write(cloud_files.KOLLA, tmp_path)]
    CliRunner().invoke(cloud, ["import", "--cloud", document, "--set", "release=2026.2", *files])
    with serving(tmp_path / "up", {"root": key}) as server:
        for name in HIDDEN:
            (tmp_path / "up" / name).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / "up" / name).chmod(0o755)
        (tmp_path / "known").write_text(server.known_hosts_line)
        login = ["--key", str(tmp_path / "id"), "--known-hosts", str(tmp_path / "known"), "--cloud", document]

        def call(*options, hosts=(f"127.0.0.1:{server.port}",)):
            named = [word for host in hosts for word in ("--host", host)]
            return CliRunner().invoke(doctor, [*named, *login, *options], catch_exceptions=False)

        call.server = server
        yield call


def test_each_machine_is_told_of_and_one_that_is_down_stops_only_itself(run):
    done = run("--json", hosts=(f"127.0.0.1:{run.server.port}", "localhost:1"))
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    here, down = told["machines"]["127.0.0.1"], told["machines"]["localhost"]
    assert "cannot be reached" in down["error"] or "came to nothing" in down["error"]
    states = {check["check"]: check["state"] for check in here["checks"]}
    assert states["reach"] == "found"
    assert states["files"] == "found"
    assert states["ports"] == states["runtime"] == states["leftovers"] == "not looked at"
    assert "clouds.yaml" in told["cloud"]["why"]


def test_people_are_told_what_it_means_and_what_to_do(run):
    said = run().stdout
    assert "No answer from here: 10.1.0.10:5000" in said
    assert "what it means: nova-compute or ovn-controller would start and wait for ever." in said
    assert "what to do: Check the cloud document" in said
    assert "--mend would: chmod o= " in said
    assert "  - runtime: dockstack runs no services here" in run("--all", "--only", "runtime").stdout


def test_nothing_is_changed_unless_it_is_asked_for_and_a_mend_is_named_first(run, tmp_path):
    assert run("--only", "files").exit_code == 1
    assert (tmp_path / "secrets.yaml").stat().st_mode & 0o777 == 0o604
    done = run("--only", "files", "--mend")
    assert (tmp_path / "secrets.yaml").stat().st_mode & 0o777 == 0o600
    assert f"mending 127.0.0.1: chmod o= {tmp_path}/secrets.yaml" in done.stderr
    assert done.exit_code == 0
    assert "nothing is wrong" in done.stdout


def test_a_private_key_that_everybody_may_read_is_found(run, tmp_path):
    (tmp_path / "ETC").mkdir()
    for name, mode in (("a.key", 0o644), ("b.key", 0o640), ("c.pem", 0o644)):
        (tmp_path / "ETC" / name).write_text("-----BEGIN CERTIFICATE-----" if name == "c.pem" else "BEGIN PRIVATE KEY")
        (tmp_path / "ETC" / name).chmod(mode)
    said = run("--only", "files").stdout
    assert f"{tmp_path}/ETC/a.key has mode 644" in said
    assert "b.key" not in said
    assert "c.pem" not in said


def test_a_report_has_no_secret_and_is_for_its_owner(run, tmp_path):
    (tmp_path / "up" / "docker").write_text(
        '#!/bin/sh\ncase " $* " in *" info "*) echo \'{"ServerVersion": "20.10.1", "HttpProxy": "http://me:proxy-pw@p"}\';;'
        " *) exit 1;; esac\n"
    )
    done = run("--report", str(tmp_path / "report.json"))
    text = (tmp_path / "report.json").read_text()
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o600
    assert not [secret for secret in SECRETS if secret in text or secret in done.output]
    report = json.loads(text)
    assert report["facts"]["127.0.0.1"]["hostname"] == platform.node()
    assert report["facts"]["127.0.0.1"]["engine"] == {"ServerVersion": "20.10.1"}
    assert report["cloud_document"]["metadata.secret"]["value"] is True
    assert report["cloud_document"]["identity.auth_url"]["value"] == "http://10.1.0.10:5000"
    assert not (tmp_path / ".report.json").exists()


def test_no_secret_is_sent(run):
    run()
    sent = "\n".join(run.server.commands)
    assert "/etc/docker/daemon.json" in sent
    assert not [secret for secret in SECRETS if secret in sent]


def test_this_machine_is_looked_at_where_no_host_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/up:{os.environ['PATH']}")
    monkeypatch.setattr(command, "require_root", lambda _: None)
    (tmp_path / "environment.yaml").write_text("nodes: {local: {}}\n")
    told = json.loads(run("--json", "--environment", f"{tmp_path}/environment.yaml", hosts=()).stdout)
    states = {check["check"]: check["state"] for check in told["machines"]["local"]["checks"]}
    assert states["files"] == "found"
    assert states["ports"] != "not looked at"


def test_the_checks_are_listed():
    done = CliRunner().invoke(doctor, ["--list"])
    assert [line.split()[0] for line in done.output.splitlines()] == list(NAMES)
