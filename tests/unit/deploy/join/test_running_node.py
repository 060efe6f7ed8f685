# SPDX-License-Identifier: Apache-2.0
"""What a running compute node tells: files below a directory of the test's, and a switch of its own."""

from __future__ import annotations

import os

import pytest

import cloud_files
from dockstack.deploy.join import running_node
from dockstack.deploy.node import connection
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
NOVA, AGENT = cloud_files.KOLLA.values()
SWITCH = """\
case "$*" in
*ovn-remote*) echo '"tcp:10.1.0.99:6642,tcp:10.1.0.98:6642"' ;;
*ovn-encap-type*) echo '"geneve,vxlan"' ;;
esac
"""


@pytest.fixture
def tell(tmp_path, monkeypatch):
    """What a node with these files tells, by their paths on it; ``switch``: the shell lines that ovs-vsctl is."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def look(files, switch="exit 1"):
        (tmp_path / "ovs-vsctl").write_text(f"#!/bin/sh\n{switch}\n")
        (tmp_path / "ovs-vsctl").chmod(0o755)
        for path, text in files.items():
            (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path.lstrip("/")).write_text(text.replace("ROOT", str(tmp_path)))
        found = running_node.values(connection.connect(inventory.load(None).local), str(tmp_path))
        return CloudDocument(found.sources), found

    return look


KOLLAS = {
    "/etc/kolla/nova-compute/nova.conf": NOVA,
    "/etc/kolla/neutron-ovn-metadata-agent/neutron_ovn_metadata_agent.ini": AGENT,
}


def test_a_node_of_kolla_tells_all_but_the_release(tell, tmp_path):
    document, _ = tell(KOLLAS)
    assert [problem.key for problem in document.problems()] == ["release"]
    source = document.values.setting("accounts.nova.password").source
    assert source == f"local:{tmp_path}/etc/kolla/nova-compute/nova.conf [service_user] password"


def test_the_switch_knows_the_southbound_database(tell):
    document, _ = tell({"/etc/nova/nova.conf": NOVA}, SWITCH)
    assert document.values["ovn.southbound"] == ("tcp:10.1.0.99:6642", "tcp:10.1.0.98:6642")
    assert document.text("ovn.encap_type") == "geneve"


def test_devstacks_own_file_of_a_compute_node_counts_and_not_the_controllers(tell):
    controllers = NOVA.replace("openstack:bus-pw@10.1.0.11:5672", "openstack:api-pw@10.1.0.11:5672")
    document, _ = tell({"/etc/nova/nova.conf": controllers, "/etc/nova/nova-cpu.conf": NOVA})
    assert "api-pw" not in document.text("messaging.transport_url")


def test_packages_second_file_adds_to_the_first(tell):
    second = "[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\n[oslo_messaging_rabbit]\nrabbit_quorum_queue = false\n"
    document, _ = tell({"/etc/nova/nova.conf": NOVA, "/etc/nova/nova-compute.conf": second})
    assert document.values["messaging.rabbit_quorum_queue"] is False
    assert document.values["messaging.rabbit_stream_fanout"] is True


@pytest.mark.parametrize(("there", "told"), [((), ""), (("a",), ""), (("a", "b"), "PEM a\nPEM b")])
def test_certificates_are_read_where_the_host_has_all_of_them(tell, there, told):
    conf = NOVA.replace("/etc/ssl/certs/ca-certificates.crt", "ROOT/etc/a.pem")
    conf = conf.replace("use_queue_manager", "ssl_ca_file = ROOT/etc/b.pem\nuse_queue_manager")
    document, found = tell({"/etc/nova/nova.conf": conf, **{f"/etc/{name}.pem": f"PEM {name}\n" for name in there}})
    assert document.text("tls.authority") == told
    assert {problem.key for problem in found.problems} == {"tls.authority"}  # counts only as long as that is empty


def test_a_machine_that_is_no_compute_node_is_refused(tell):
    with pytest.raises(DockstackError, match=r"has no nova\.conf"):
        tell({"/etc/neutron/neutron.conf": "[DEFAULT]\n"})
