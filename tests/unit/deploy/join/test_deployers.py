# SPDX-License-Identifier: Apache-2.0
"""What the configuration directories of Kolla-Ansible, OpenStack-Ansible and DevStack tell a compute node."""

from __future__ import annotations

import json

import pytest

import deployer_files
from dockstack.deploy.join import devstack, kolla, openstack_ansible
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
RELEASE = SourceValues("test", {"release": "2026.2"})


@pytest.fixture
def tell(tmp_path):
    """The document that a directory makes, and what it could not tell."""

    def read(deployer, files, **changed):
        found = deployer.values(str(deployer_files.write(files, tmp_path, **changed)))
        return CloudDocument(found.sources), found

    return read


def of_kolla(tell, globals_="", **changed):
    text = deployer_files.KOLLA["globals.yml"] + globals_
    return tell(kolla, deployer_files.KOLLA, **{"globals.yml": text, **changed})


def of_osa(tell, variables="", **changed):
    text = deployer_files.OPENSTACK_ANSIBLE["user_variables.yml"] + variables
    return tell(openstack_ansible, deployer_files.OPENSTACK_ANSIBLE, **{"user_variables.yml": text, **changed})


def missing(document, found):
    return {problem.key for problem in (*document.problems(), *found.problems)}


@pytest.mark.parametrize(
    ("deployer", "files", "said"),
    [
        (kolla, deployer_files.KOLLA, ()),
        (openstack_ansible, deployer_files.OPENSTACK_ANSIBLE, (RELEASE,)),
        (devstack, deployer_files.DEVSTACK, (RELEASE,)),
    ],
    ids=["kolla", "openstack-ansible", "devstack"],
)
def test_a_directory_tells_all_that_a_node_must_know_and_no_other_secret(tell, deployer, files, said):
    _, found = tell(deployer, files)
    document = CloudDocument([*found.sources, *said])
    document.require_usable("", found.problems)
    values = str([setting.value for _, setting in document.settings()])
    assert not [secret for secret in deployer_files.UNWANTED if secret in values]


@pytest.mark.parametrize(
    ("deployer", "files", "name"),
    [
        (kolla, deployer_files.KOLLA, "Kolla-Ansible"),
        (openstack_ansible, deployer_files.OPENSTACK_ANSIBLE, "OpenStack-Ansible"),
        (devstack, deployer_files.DEVSTACK, ""),
    ],
    ids=["kolla", "openstack-ansible", "devstack"],
)
def test_who_looks_after_the_machines_is_written_down(tell, deployer, files, name):
    assert tell(deployer, files)[0].text("deployer") == name


def test_kolla_bus_queues_and_relays(tell):
    document, found = of_kolla(tell)
    assert document.text("messaging.transport_url") == (
        "rabbit://openstack:bus-pw@10.1.0.11:5672,openstack:bus-pw@control02:5672//"
    )
    queues = ("rabbit_quorum_queue", "rabbit_transient_quorum_queue", "rabbit_stream_fanout", "use_queue_manager")
    assert all(document.values[f"messaging.{name}"] is True for name in queues)
    assert document.values["messaging.rabbit_qos_prefetch_count"] == 50
    assert document.values["ovn.southbound"] == ("tcp:10.1.0.11:16641", "tcp:control02:16641")
    assert document.values["ovn.northbound"] == ("tcp:10.1.0.11:6641", "tcp:control02:6641")
    assert "api_interface" in found.warnings[0]


def test_every_value_names_its_file_and_variable(tell, tmp_path):
    document, _ = of_kolla(tell)
    source = {key.name: setting.source for key, setting in document.settings()}
    assert source["accounts.nova.password"] == f"{tmp_path}/passwords.yml nova_keystone_password"
    assert source["identity.region"] == f"{tmp_path}/globals.d/site.yml site"
    assert source["ovn.southbound"] == f"{tmp_path}/inventory.json group ovn-sb-db-relay"
    assert source["identity.auth_url"] == (
        f"Kolla-Ansible's default of internal_protocol, {tmp_path}/globals.yml kolla_internal_vip_address, "
        "Kolla-Ansible's default of keystone_internal_port"
    )


@pytest.mark.parametrize(
    ("globals_", "inventory"),
    [("enable_ovn_sb_db_relay: no\n", None), ("", {"ovn-sb-db-relay": {}})],
    ids=["switched off", "an inventory of before"],
)
def test_kolla_without_relays(tell, globals_, inventory):
    listed = json.loads(deployer_files.KOLLA["inventory.json"]) | (inventory or {})
    document, _ = of_kolla(tell, globals_, **{"inventory.json": json.dumps(listed)})
    assert document.values["ovn.southbound"] == ("tcp:10.1.0.11:6642", "tcp:control02:6642")


def test_kolla_with_tls_a_cell_and_an_outside_of_its_own(tell, tmp_path):
    more = """\
kolla_enable_tls_internal: "yes"
kolla_enable_tls_external: "yes"
rabbitmq_enable_tls: true
kolla_external_vip_address: 203.0.113.10
kolla_external_fqdn: cloud.example.org
enable_nova_serialconsole_proxy: true
nova_cell_name: east
om_enable_rabbitmq_stream_fanout: no
"""
    document, _ = of_kolla(tell, more, **{"certificates/ca/root.crt": "PEM root\n"})
    assert document.text("identity.auth_url") == "https://10.1.0.10:5000"
    assert document.text("metadata.protocol") == "https"
    assert document.text("messaging.transport_url").endswith(":5671/nova_east")
    assert document.values["messaging.ssl"] is True
    assert document.values["messaging.rabbit_qos_prefetch_count"] == 0
    assert document.text("tls.authority") == "PEM root"
    assert document.text("consoles.novnc_url") == "https://cloud.example.org:6080/vnc_lite.html"
    assert document.text("consoles.serial_url") == "wss://cloud.example.org:6083/"


def test_what_kolla_leaves_open_is_named_all_at_once(tell):
    globals_ = deployer_files.KOLLA["globals.yml"].replace("2026.2", "master")
    globals_ += "openstack_region_name: \"{{ lookup('env', 'REGION') }}\"\n"
    passwords = deployer_files.KOLLA["passwords.yml"].replace(" nova-pw", "").replace(" bus-pw", "")
    changed = {"globals.yml": globals_, "passwords.yml": passwords}
    document, found = tell(kolla, deployer_files.KOLLA, **changed)
    assert missing(document, found) == {
        *("release", "identity.region", "accounts.nova.password"),
        *("messaging.transport_url", "messaging.neutron_transport_url"),
    }
    told = {problem.key: problem.text for problem in found.problems}
    assert told["identity.region"].endswith("openstack_region_name is no plain value.")
    assert told["messaging.transport_url"] == "rabbitmq_password is not set."


def test_a_kolla_without_its_address_says_so_with_each_key(tell):
    globals_ = deployer_files.KOLLA["globals.yml"].replace('"10.1.0.10"', "")
    _, found = tell(kolla, deployer_files.KOLLA, **{"globals.yml": globals_})
    told = {problem.key: problem.text for problem in found.problems}
    assert told == dict.fromkeys(
        ("identity.auth_url", "metadata.host", "consoles.novnc_url"), "kolla_internal_vip_address is not set."
    )


@pytest.mark.parametrize(
    "passwords",
    ["$ANSIBLE_VAULT;1.1;AES256\n6162\n", "nova_keystone_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n"],
    ids=["the file", "one value"],
)
def test_what_is_encrypted_is_refused(tell, passwords):
    with pytest.raises(DockstackError, match=r"passwords.yml.* is encrypted by Ansible Vault\.") as refused:
        of_kolla(tell, **{"passwords.yml": passwords})
    assert "ansible-vault decrypt" in refused.value.resolution


def test_a_file_that_is_no_yaml_shows_nothing_of_itself(tell):
    with pytest.raises(DockstackError, match=r"passwords.yml is no YAML, line 3") as refused:
        of_kolla(tell, **{"passwords.yml": "a: 1\nsecret: 'hush\n"})
    assert "hush" not in f"{refused.value}{refused.value.resolution}{refused.value.details}"


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"multinode": ""}, "several inventories"), ({"inventory.json": None}, "no inventory")],
)
def test_which_inventory_is_not_guessed(tell, changed, why):
    with pytest.raises(DockstackError, match=why) as refused:
        of_kolla(tell, **changed)
    assert "--inventory" in refused.value.resolution


def test_openstack_ansible_calls_all_services_by_novas_account(tell, tmp_path):
    document, found = of_osa(tell)
    assert missing(document, found) == {"release"}
    assert {document.text(f"accounts.{name}.password") for name in ("nova", "placement", "neutron")} == {"nova-pw"}
    assert document.text("messaging.transport_url") == "rabbit://nova:bus-pw@172.29.236.31:5671/nova"
    assert document.text("identity.auth_url") == "http://172.29.236.9:5000/v3"
    assert document.text("identity.region") == "south"
    assert document.values["ovn.southbound"] == ("tcp:172.29.236.11:6642",)
    assert document.values["messaging.rabbit_quorum_queue"] is True
    assert document.values["messaging.use_queue_manager"] is False
    assert document.values["messaging.rabbit_qos_prefetch_count"] == 10
    assert document.text("tls.authority") == "PEM root"
    assert document.values.setting("metadata.host").source == (
        f"{tmp_path}/openstack_user_config.yml global_overrides: internal_lb_vip_address"
    )


def test_openstack_ansible_with_classic_queues_has_other_virtual_hosts(tell):
    document, _ = of_osa(tell, "rabbitmq_queue_replication: false\nrabbitmq_use_ssl: false\n")
    assert document.text("messaging.transport_url") == "rabbit://nova:bus-pw@172.29.236.31:5672//nova"
    assert document.values["messaging.rabbit_stream_fanout"] is False


def test_openstack_ansibles_ovn_over_tls_wants_a_certificate_for_the_nodes(tell):
    chain = {"pki/roots/ExampleCorpIntermediate/certs/ExampleCorpIntermediate-chain.crt": "PEM chain\n"}
    document, found = of_osa(tell, "neutron_ovn_ssl: true\n", **chain)
    assert document.values["ovn.southbound"] == ("ssl:172.29.236.11:6642",)
    assert document.text("ovn.authority") == "PEM chain"
    assert missing(document, found) == {"release", "ovn.certificate", "ovn.private_key"}


def test_later_files_of_openstack_ansible_win_and_group_variables_count(tell):
    files = {"group_vars/all/site.yml": "service_region: first\nnova_metadata_port: 8000\n"}
    document, _ = of_osa(tell, **files, **{"user_zone.yml": "service_region: last\n"})
    assert document.text("identity.region") == "last"
    assert document.values["metadata.port"] == 8000


def test_devstack_tells_by_its_own_shell_variables_which_are_not_run(tell, tmp_path):
    document, found = tell(devstack, deployer_files.DEVSTACK)
    assert missing(document, found) == {"release"}
    assert document.text("messaging.transport_url") == "rabbit://stackrabbit:bus-pw@192.0.2.5:5672/nova_cell1"
    assert document.text("accounts.cinder.password") == "service pw"
    assert document.text("identity.region") == "west"
    assert document.text("identity.interface") == "public"
    assert document.values["ovn.southbound"] == ("tcp:192.0.2.5:6642",)
    assert document.values.setting("metadata.secret").source == "DevStack"


def test_devstack_that_computes_its_address_says_so(tell):
    computed = deployer_files.DEVSTACK["local.conf"].replace("192.0.2.5", "$(hostname -I)")
    _, found = tell(devstack, deployer_files.DEVSTACK, **{"local.conf": computed})
    told = {problem.key: problem.text for problem in found.problems}
    assert told["metadata.host"].endswith("local.conf HOST_IP is no plain value.")


@pytest.mark.parametrize("deployer", [kolla, openstack_ansible, devstack])
def test_another_directory_is_refused(tmp_path, deployer):
    with pytest.raises(DockstackError, match="has no"):
        deployer.values(str(tmp_path))
