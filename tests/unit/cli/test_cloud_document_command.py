# SPDX-License-Identifier: Apache-2.0
"""`dockstack cloud import | show | keys`."""

from __future__ import annotations

import json

import paramiko
import pytest
from click.testing import CliRunner

import cloud_files
import cloud_services
import deployer_files
from dockstack.cli.cloud_document import cloud
from dockstack.deploy.join import running_node
from dockstack.deploy.wanted import cloud_document
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.errors import DockstackError
from ssh_server import serving

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path):
    paths = [str(path) for path in cloud_files.write(cloud_files.KOLLA, tmp_path)]

    def call(command, *options, files=paths):
        arguments = [
            command,
            "--cloud",
            str(tmp_path / "cloud.yaml"),
            *options,
            *(files if command == "import" else ()),
        ]
        done = CliRunner().invoke(cloud, arguments)
        if isinstance(done.exception, DockstackError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return call


def test_an_imported_cloud_is_shown_without_its_secrets(run, tmp_path):
    run("import", "--set", "release=2026.1")
    told = json.loads(run("show", "--json"))
    assert told["release"] == {"value": "2026.1", "from": "command line"}
    assert told["accounts.nova.password"]["value"] == "********"
    assert told["identity.auth_url"]["from"] == f"{tmp_path}/nova.conf [placement] auth_url"
    for shown in (run("show"), json.dumps(told)):
        assert not [secret for secret in ("bus-pw", "nova-pw", "placement-pw", "meta-pw") if secret in shown]


def test_a_document_that_nobody_could_use_is_not_written(run, tmp_path):
    with pytest.raises(DockstackError, match="a key is missing") as refused:
        run("import")
    assert "- release: missing" in refused.value.details
    assert not (tmp_path / "cloud.yaml").exists()


def test_a_secret_is_given_in_a_file_and_not_on_the_command_line(run, tmp_path):
    with pytest.raises(DockstackError, match="others can read") as refused:
        run("import", "--set", "release=2026.1", "--set", "metadata.secret=hush-hush")
    assert "hush" not in f"{refused.value}{refused.value.resolution}"
    (tmp_path / "secret").write_text("hush-hush\n")
    run("import", "--set", "release=2026.1", "--set-file", f"metadata.secret={tmp_path}/secret")
    assert "metadata.secret:\n  value: hush-hush\n" in (tmp_path / "cloud-secrets.yaml").read_text()


@pytest.mark.parametrize(("options", "files"), [((), []), (("--from-here",), ["nova.conf"])], ids=["neither", "both"])
def test_there_is_one_source(run, options, files):
    with pytest.raises(DockstackError, match="no one source"):
        run("import", *options, files=files)


@pytest.mark.parametrize(
    ("option", "files"),
    [
        ("--from-kolla", deployer_files.KOLLA),
        ("--from-openstack-ansible", deployer_files.OPENSTACK_ANSIBLE),
        ("--from-devstack", deployer_files.DEVSTACK),
    ],
)
def test_a_deployers_directory_is_a_source(run, tmp_path, option, files):
    directory = str(deployer_files.write(files, tmp_path / "site"))
    run("import", "--set", "release=2026.2", option, directory, files=[])
    assert "bus-pw" in (tmp_path / "cloud-secrets.yaml").read_text()
    assert "bus-pw" not in (tmp_path / "cloud.yaml").read_text()


def test_nodes_of_the_environment_file_are_exported(tmp_path):
    nodes = {f"node{n}": {"connector": "@ssh", "roles": ["compute"], "address": f"192.0.2.{n}"} for n in (7, 8)}
    (tmp_path / "env.yaml").write_text(json.dumps({"nodes": nodes}))  # which is YAML, too
    line = ["export", "kolla", f"{tmp_path}/out", "--environment", f"{tmp_path}/env.yaml", "--limit", "*8"]
    done = CliRunner().invoke(cloud, line)
    assert done.exit_code == 0, done.exception
    assert f"Wrote {tmp_path}/out/docker_compute.yml" in done.output
    assert "192.0.2.8" in (tmp_path / "out/host_vars/node8.yml").read_text()
    assert not (tmp_path / "out/host_vars/node7.yml").exists()


def test_a_secret_that_a_cloud_leaves_empty_is_said(run, tmp_path):
    agent = cloud_files.KOLLA["neutron_ovn_metadata_agent.ini"].replace("metadata_proxy_shared_secret = meta-pw\n", "")
    nova = cloud_files.KOLLA["nova.conf"].replace("metadata_proxy_shared_secret = meta-pw\n", "")
    files = [str(path) for path in cloud_files.write({"nova.conf": nova, "agent.ini": agent}, tmp_path)]
    with pytest.raises(DockstackError) as refused:
        run("import", "--set", "release=2026.1", files=files)
    assert refused.value.details.startswith("- metadata.secret: missing")
    run("import", "--set", "release=2026.1", "--set-file", "metadata.secret=/dev/null", files=files)
    assert (
        cloud_document.load(tmp_path / "cloud.yaml").values.setting("metadata.secret").source == "--set-file /dev/null"
    )


def test_every_key_is_listed_with_who_needs_it():
    shown = CliRunner().invoke(cloud, ["keys"]).output
    assert "metadata.secret" in shown
    assert "with OVN" in shown


def test_a_running_compute_node_tells_over_ssh(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    nova, agent = (str(path) for path in cloud_files.write(cloud_files.KOLLA, tmp_path))
    monkeypatch.setattr(running_node, "NOVA", ((nova,),))
    monkeypatch.setattr(running_node, "NEUTRON", (agent,))
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    with serving(tmp_path / "node", {"admin": key}) as server:
        server.sudo()
        (tmp_path / "known").write_text(server.known_hosts_line)
        login = ["--key", f"{tmp_path}/id", "--known-hosts", f"{tmp_path}/known", "--cloud", f"{tmp_path}/cloud.yaml"]
        line = ["import", "--set", "release=2026.1", "--from-host", f"admin@127.0.0.1:{server.port}", *login]
        done = CliRunner().invoke(cloud, line)
    assert done.exit_code == 0, done.exception
    document = cloud_document.load(tmp_path / "cloud.yaml")
    assert document.values.setting("metadata.host").source == f"127.0.0.1:{agent} [DEFAULT] nova_metadata_host"
    assert document.text("accounts.nova.password") == "nova-pw"


def test_a_cloud_is_asked_whether_it_is_as_its_document_says(tmp_path):
    apis, broker = cloud_services.Apis(), cloud_services.Broker()
    southbound, northbound = cloud_services.Database("OVN_Southbound"), cloud_services.Database("OVN_Northbound")
    with cloud_services.running(apis, broker, southbound, northbound):
        known = {
            "release": "2026.2",
            "messaging.transport_url": f"rabbit://openstack:bus-pw@127.0.0.1:{broker.port}/",
            "identity.auth_url": f"{apis.url}/identity",
            "identity.region": "RegionOne",
            "ovn.southbound": [southbound.remote],
            "ovn.northbound": [northbound.remote],
            "metadata.host": "10.1.0.10",
            "metadata.secret": "meta-pw",
        }
        for name, password in cloud_services.PASSWORDS.items():
            known |= {f"accounts.{name}.username": name, f"accounts.{name}.password": password}
        cloud_document.save(cloud_document.CloudDocument([SourceValues("test", known)]), tmp_path / "cloud.yaml")
        line = ["check", "--cloud", str(tmp_path / "cloud.yaml")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cloud_document, "names_loopback", lambda _: False)
            good = CliRunner().invoke(cloud, [*line, "--json"])
            apis.microversion = "2.103"
            old = CliRunner().invoke(cloud, line)
    assert good.exit_code == 0, good.output
    assert {told["verdict"] for told in json.loads(good.stdout)} == {"passed", "skipped"}
    assert old.exit_code == 1
    assert "FAILED versions: The cloud takes nodes of this release" in old.stdout
    assert "what to do: Upgrade the cloud first" in old.stdout
    for password in cloud_services.PASSWORDS.values():
        assert password not in good.output + old.output
