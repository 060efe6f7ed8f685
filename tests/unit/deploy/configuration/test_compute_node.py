# SPDX-License-Identifier: Apache-2.0
"""What a compute node of somebody's cloud gets, and what it never gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

import cloud_files
from dockstack.deploy.configuration import compute_node, oslo_file
from dockstack.deploy.configuration.settings import SECRET_NAMES, Settings
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import service_files
from dockstack.deploy.supervision.services import to_json
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS

pytestmark = pytest.mark.unit
SECRET_KEYS = [key.name for key in CLOUD_KEYS if key.secret]
TLS = {"ovn.southbound": ["ssl:192.0.2.1:6642"], "ovn.authority": "CA", "ovn.certificate": "CERT"}


def sent(document: CloudDocument, settings: Settings) -> str:
    """All that goes onto a node: every file, and every service with its command and environment.

    The settings hold every secret of a whole cloud, to see that none of them goes on.
    """
    files = compute_node.files(document, settings)
    services = compute_node.services(DEBIAN_12, document, settings)
    return "\n".join([f"{path}\n{file.content}" for path, file in files.items()] + [str(to_json(s)) for s in services])


def with_secrets(**more: object) -> CloudDocument:
    """A document in which every secret key has a value of its own."""
    values = {name: f"<{name}>" for name in SECRET_KEYS}
    return CloudDocument([SourceValues("test", {**values, "ovn.southbound": ["tcp:192.0.2.1:6642"], **more})])


def secret_keys_in(text: str) -> set[str]:
    return {name for name in SECRET_KEYS if f"<{name}>" in text}


LEAST = {
    "messaging.transport_url",
    "accounts.nova.password",
    "accounts.placement.password",
    "accounts.neutron.password",
    "metadata.secret",
}


@pytest.mark.parametrize(
    ("more", "further"),
    [
        ({}, set()),
        ({"accounts.cinder.username": "cinder"}, {"accounts.cinder.password"}),
        (TLS, {"ovn.private_key"}),
    ],
    ids=["ovn", "cinder", "tls"],
)
def test_a_node_gets_the_secrets_that_it_needs_and_no_other(settings, more, further):
    assert secret_keys_in(sent(with_secrets(**more), settings)) == LEAST | further


def test_no_secret_of_a_whole_cloud_goes_to_a_node(settings):
    text = sent(with_secrets(), settings)
    assert not [name for name in SECRET_NAMES if f"secret-{name}" in text]
    assert "mysql" not in text


def test_the_builders_of_a_node_could_not_use_another_secret(settings):
    on_node = compute_node.settings_on(with_secrets(), settings)
    assert on_node.secrets == {"metadata_secret": "<metadata.secret>"}
    with pytest.raises(KeyError):
        on_node.database_url("nova", "nova")


def test_no_databases_password_goes_from_a_controllers_file_to_a_node(settings, tmp_path):
    sources = service_files.read(cloud_files.write(cloud_files.BY_HAND, tmp_path)).sources
    text = sent(CloudDocument(sources), settings)
    assert "placement-pw" in text
    assert not [password for password in cloud_files.DATABASE_PASSWORDS if password in text]
    assert "neutron-bus-pw" in text, "this cloud has ML2/OVS, whose agents need it"


def test_secrets_stand_only_in_files_that_their_service_alone_reads(settings):
    document = with_secrets(**TLS)
    for path, file in compute_node.files(document, settings).items():
        if secret_keys_in(file.content):
            assert file.mode == 0o640, path
            assert file.group != "root", path
    services = "".join(str(to_json(service)) for service in compute_node.services(DEBIAN_12, document, settings))
    assert not secret_keys_in(services)


def test_queues_are_declared_as_the_cloud_has_them(settings, tmp_path):
    sources = service_files.read(cloud_files.write(cloud_files.KOLLA, tmp_path)).sources
    conf = compute_node.files(CloudDocument(sources), settings)[compute_node.NOVA_CONF].content
    rabbit = oslo_file.parse(conf, "nova.conf")["oslo_messaging_rabbit"]
    assert rabbit["rabbit_quorum_queue"] == rabbit["rabbit_transient_quorum_queue"] == "true"
    assert rabbit["rabbit_qos_prefetch_count"] == "50"
    assert rabbit["rabbit_ha_queues"] == "false"


def test_what_was_read_is_written_so_that_it_is_read_again(settings, tmp_path):
    sources = service_files.read(cloud_files.write(cloud_files.BY_HAND, tmp_path)).sources
    conf = compute_node.files(CloudDocument(sources), settings)[compute_node.NOVA_CONF].content
    assert "bus$$pw@" in conf
    assert oslo_file.parse(conf, "nova.conf")["DEFAULT"]["transport_url"] == "rabbit://nova:bus$pw@192.0.2.5:5672/"


@pytest.mark.parametrize("authority", ["CERT", ""])
def test_the_nodes_servers_boot_from_the_clouds_registry(settings, authority):
    ours = replace(settings, hypervisor_options=(("docker", ()),))
    document = with_secrets(**{"registry.address": "192.0.2.1:5005", "tls.authority": authority})
    conf = compute_node.files(document, ours)[compute_node.NOVA_CONF].content
    options = oslo_file.parse(conf, "nova.conf")["docker"]
    told = {"cloud_registry": "192.0.2.1:5005", **({"registry_ca_file": compute_node.AUTHORITY} if authority else {})}
    assert {name: value for name, value in options.items() if "registry" in name} == told
    assert "registry" not in compute_node.files(with_secrets(), ours)[compute_node.NOVA_CONF].content


def test_the_node_is_a_chassis_without_gateway_or_external_bridge(settings):
    remotes = {"ovn.southbound": ["tcp:192.0.2.1:6642", "tcp:192.0.2.2:6642"]}
    script = compute_node.files(with_secrets(**remotes), settings)["/opt/dockstack/libexec/prepare-ovs-vswitchd"]
    assert 'ovn-remote="tcp:192.0.2.1:6642,tcp:192.0.2.2:6642"' in script.content
    assert "bridge-mappings" not in script.content
    assert "enable-chassis-as-gw" not in script.content


def test_services_wait_for_nothing_that_is_elsewhere(settings):
    services = compute_node.services(DEBIAN_12, with_secrets(), settings)
    names = {service.name for service in services}
    assert names == compute_node.here(with_secrets())
    assert {required for service in services for required in service.requires} <= names
    assert "external-bridge" not in str([to_json(service) for service in services])


def test_run_directories_that_a_controllers_services_make_are_made_here(settings):
    services = {service.name: service for service in compute_node.services(DEBIAN_12, with_secrets(), settings)}
    assert ("install", "-d", "-m", "755", "/run/ovn") in services["ovn-controller"].prepare


def test_ovn_is_spoken_to_over_tls_where_the_cloud_does(settings):
    document = with_secrets(**TLS)
    (controller,) = (s for s in compute_node.services(DEBIAN_12, document, settings) if s.name == "ovn-controller")
    assert "--private-key=/etc/dockstack/ovn-key.pem" in controller.command
    assert "--ca-cert=/etc/dockstack/ovn-authority.pem" in controller.command
    assert "/etc/dockstack/ovn-key.pem" in controller.watch
    agent = oslo_file.parse(compute_node.files(document, settings)[compute_node.AGENT_CONF].content, "agent")
    assert agent["ovn"]["ovn_sb_private_key"] == agent["ovn"]["ovn_nb_private_key"] == "/etc/dockstack/ovn-key.pem"
