# SPDX-License-Identifier: Apache-2.0
"""What a node is told: all that it needs, as it was wanted, and no other secret."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dockstack.deploy.configuration import compute_node, nova, oslo_file
from dockstack.deploy.configuration.settings import SECRET_NAMES
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import commission
from dockstack.deploy.join.look import NodeFacts
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.recipes.facts import settings_from
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def handed_over(told, tmp_path):
    (tmp_path / "commission.json").write_text(told.text())
    return commission.read(tmp_path / "commission.json")


def test_attributes_arrive_as_they_were_wanted(cloud, compute, tmp_path):
    wanted = compute("docker.socket_mode=0600", "compute.cpu_allocation_ratio=4", "image.container_formats=[wasm]")
    read = handed_over(commission.commission(wanted, cloud, "10.1.0.31"), tmp_path).node()
    named = {one.attribute.name: one.value for one in wanted.attributes.settings()}
    there = {one.attribute.name: one.value for one in read.attributes.settings()}
    assert there == {**named, "network.encap_ip": "10.1.0.31", "release": "2026.2"}
    assert (read.connector, read.roles) == ("@local", {Role.COMPUTE})


def test_the_node_writes_what_the_plan_shows(cloud, compute, tmp_path):
    joining = Joining(compute("debug=true"), cloud)
    facts = NodeFacts(hostname="one", source="10.1.0.31")
    told = commission.commission(joining.node, cloud, joining.settings(facts).tunnel_address)
    read = handed_over(told, tmp_path)
    contribution = joining.plugin.contribution()
    there = settings_from(
        read.node().attributes, contribution, {}, hostname="one", datapath="system", distribution=DEBIAN_12
    )
    assert compute_node.files(read.document(), there) == joining.files(facts)


def test_nova_is_patched_in_our_own_cloud_alone(cloud, compute):
    joining, facts = Joining(compute(), cloud), NodeFacts(hostname="one", source="10.1.0.31")
    joined = oslo_file.parse(joining.files(facts)[compute_node.NOVA_CONF].content, "nova.conf")
    assert joined["docker"]["host_url"]
    assert "skip_allocation_lookup" not in joined["docker"]
    here = replace(joining.settings(facts), secrets=dict.fromkeys(SECRET_NAMES, "-"))
    assert nova.nova_conf(here)["docker"]["skip_allocation_lookup"] == "true"


@pytest.mark.parametrize(
    ("more", "further"),
    [
        ({}, set()),
        ({"accounts.cinder.username": "cinder"}, {"accounts.cinder.password"}),
        ({"network.mechanism": "openvswitch"}, {"messaging.neutron_transport_url"}),
    ],
    ids=["ovn", "cinder", "openvswitch"],
)
def test_a_secret_that_the_node_has_no_use_for_is_not_told(compute, more, further):
    secrets = {key.name: f"<{key.name}>" for key in CLOUD_KEYS if key.secret}
    always = {name for name in secrets if name.split(".")[-1] in {"transport_url", "password"} and "cinder" not in name}
    always |= {"ovn.private_key", "metadata.secret"}
    if more.get("network.mechanism"):
        always -= {"metadata.secret", "ovn.private_key"}
    told = commission.commission(compute(), CloudDocument([SourceValues("test", {**secrets, **more})]), "192.0.2.1")
    assert {name for name, value in secrets.items() if value in told.text()} == always | further


def test_a_commission_that_is_not_whole_is_refused(tmp_path):
    for text in ("", "{}", json.dumps([1])):
        (tmp_path / "commission.json").write_text(text)
        with pytest.raises(DockstackError, match="does not say"):
            commission.read(tmp_path / "commission.json")
    with pytest.raises(DockstackError, match="does not say"):
        commission.read(tmp_path / "nothing")
