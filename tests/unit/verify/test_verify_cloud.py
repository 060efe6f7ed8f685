# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import catalog
from openstack import exceptions as sdk_errors

from dockstack.errors import DockstackError
from dockstack.verify.cloud import Choices, choose_flavor, find_facts, why_not_the_host
from dockstack.verify.model import Capability, SystemImage

pytestmark = pytest.mark.unit


def cloud(
    *,
    hypervisor="docker",
    subnets=("v4",),
    gateway=True,
    forbidden=False,
    image_format="docker",
    images=True,
    state="up",
    system=128,
    registry=True,
    volumes=True,
    keys=True,
):
    def hypervisors(details):
        if forbidden:
            raise sdk_errors.ForbiddenException("no")
        return [SimpleNamespace(hypervisor_type=hypervisor, name="node", state=state, status="enabled")]

    def catalogued(service_type):
        known = {"block-storage": volumes, "key-manager": keys}.get(service_type, registry)
        if not known:
            raise catalog.EndpointNotFound(service_type)  # as keystoneauth says it
        return "http://127.0.0.1:5005"

    image = SimpleNamespace(id="i", name="dockstack-base", container_format=image_format, properties={})
    debian = SimpleNamespace(
        id="d", name="debian-trixie", container_format="docker", properties={}, min_ram=system, min_disk=1
    )
    network = SimpleNamespace(id="n", name="private", subnet_ids=list(subnets), is_router_external=False)
    gateway_info = {"network_id": "public"} if gateway else None
    return SimpleNamespace(
        session=SimpleNamespace(get_endpoint=catalogued),
        compute=SimpleNamespace(
            hypervisors=hypervisors,
            flavors=lambda: [
                SimpleNamespace(id="f", name="m1.small", ram=1024, vcpus=1, disk=5),
                SimpleNamespace(id="n", name="m1.nano", ram=64, vcpus=1, disk=1),
            ],
        ),
        image=SimpleNamespace(
            images=lambda status: iter([image, *([debian] if system else [])] if images else []),
            find_image=lambda name: None,
        ),
        network=SimpleNamespace(
            networks=lambda: [network],
            get_subnet=lambda name: SimpleNamespace(ip_version=int(name[-1])),
            ports=lambda network_id: [SimpleNamespace(device_owner="network:router_interface", device_id="r")],
            get_router=lambda router: SimpleNamespace(external_gateway_info=gateway_info),
        ),
    )


def missing(**kwargs):
    return set(find_facts(cloud(**kwargs), Choices()).missing) - {Capability.HOST}


def test_a_whole_cloud_lacks_nothing():
    facts = find_facts(cloud(subnets=("v4", "v6")), Choices())
    assert set(facts.missing) <= {Capability.HOST}
    assert facts.system == SystemImage("d", "f")  # the smaller one is too small for it
    assert (facts.flavor_name, facts.external_network_id, facts.login_user) == ("m1.nano", "public", "dockstack")


@pytest.mark.parametrize(
    ("differently", "lacks"),
    [
        ({}, {Capability.IPV6}),
        ({"hypervisor": "fake"}, {Capability.IPV6, Capability.GUEST, Capability.LOGIN, Capability.DOCKER}),
        ({"hypervisor": "QEMU"}, {Capability.IPV6, Capability.DOCKER}),
        ({"gateway": False}, {Capability.IPV6, Capability.FLOATING_IP, Capability.LOGIN}),
        ({"forbidden": True}, {Capability.IPV6, Capability.ADMIN, Capability.DOCKER}),
        ({"image_format": "bare", "system": 0}, {Capability.IPV6, Capability.LOGIN, Capability.SYSTEM}),
        ({"system": 4096}, {Capability.IPV6, Capability.SYSTEM}),
        ({"registry": False}, {Capability.IPV6, Capability.REGISTRY}),
        ({"volumes": False}, {Capability.IPV6, Capability.VOLUMES}),
        ({"keys": False}, {Capability.IPV6, Capability.KEY_MANAGER}),
    ],
)
def test_what_is_missing_has_a_reason(differently, lacks):
    assert missing(**differently) == lacks


def test_a_cloud_whose_nodes_are_down_is_said():
    with pytest.raises(DockstackError, match="No compute node is up: node is down, enabled"):
        find_facts(cloud(state="down"), Choices())


def test_no_image_is_said():
    with pytest.raises(DockstackError, match="no image"):
        find_facts(cloud(images=False), Choices())


def test_a_wish_that_is_not_there_is_said():
    with pytest.raises(DockstackError, match="no image 'x'"):
        find_facts(cloud(), Choices(image="x"))


def test_no_flavor_is_said():
    connection = SimpleNamespace(compute=SimpleNamespace(flavors=list))
    with pytest.raises(DockstackError, match="no flavor"):
        choose_flavor(connection, None)


def test_the_host_capability_needs_root_and_this_machine(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("socket.gethostname", lambda: "node")
    monkeypatch.setattr("dockstack.verify.host.further_names", lambda: {"node-2"})
    assert why_not_the_host({"docker"}, ["node"]) == ""
    assert why_not_the_host({"docker"}, ["node", "node-2"]) == ""
    assert "only machine: other" in why_not_the_host({"docker"}, ["node", "node-2", "other"])
    assert "compute node is other" in why_not_the_host({"docker"}, ["other"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "not root" in why_not_the_host({"docker"}, ["node"])
