# SPDX-License-Identifier: Apache-2.0
"""What is found at a cloud, and that the cloud's APIs are read as they answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

import cloud_services
from dockstack.doctor.checks import CLOUD
from dockstack.doctor.cloud import Cloud, Image, Server, Service
from dockstack.doctor.model import Need, examine
from dockstack.verify.cloud import NoCloudError

pytestmark = pytest.mark.unit

CHASSIS = "OVN Controller agent"
ONE = Service("nova-compute", "one", up=True)


@dataclass
class Fake:
    """A cloud that is well: one compute host of Docker's, which is a chassis and a provider."""

    services: tuple = (ONE, Service("nova-conductor", "head", up=True))
    agents: tuple = (Service(CHASSIS, "one", up=True),)
    providers: frozenset = frozenset({"one"})
    hypervisors: dict = field(default_factory=lambda: {"one": "docker"})
    images: tuple = (Image("i1", "base", "docker", ""), Image("i2", "vm", "bare", ""))
    servers: tuple = (Server("s1", "one", "ACTIVE", "", 9e9), Server("s2", "one", "BUILD", "spawning", 60.0))
    microversion: tuple = (2, 104)
    claimed: list = field(default_factory=list)

    def claim_image(self, image):
        self.claimed.append(image.id)


def found(cloud, name=None):
    results = examine(CLOUD, cloud, frozenset({Need.CLOUD}), frozenset({name} if name else ()))
    return [finding for result in results for finding in result.findings]


def test_nothing_is_found_where_nothing_is_wrong():
    assert found(Fake()) == []


FAULTS = {
    "compute-services": (
        {"services": (Service("nova-conductor", "head", up=False), ONE)},
        "nova-conductor on head is down",
    ),
    "agents": ({"agents": (Service(CHASSIS, "one", up=False),)}, "OVN Controller agent on one is down"),
    "chassis": ({"agents": (Service(CHASSIS, "one.example.org", up=True),)}, "but one called one.example.org"),
    "providers": ({"providers": frozenset()}, "no provider one"),
    "release": ({"microversion": (2, 150)}, "2.150, which is newer"),
    "tasks": ({"servers": (Server("s1", "one", "ACTIVE", "rebooting", 3600.0),)}, "its task rebooting"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_is_found_by_its_check(name):
    values, said = FAULTS[name]
    (finding,) = found(Fake(**values), name)
    assert said in finding.brief
    assert not finding.note


HOSTILE = "x; touch /tmp/owned"  # a compute host calls itself what it likes
TOLD = {
    "compute-services": {"services": (Service("nova-compute", HOSTILE, True, False, "repair"),)},
    "chassis": {"services": (ONE, Service("nova-compute", HOSTILE, up=True))},
    "providers": {
        "providers": frozenset({"one", HOSTILE}),
        "agents": (*Fake().agents, Service(CHASSIS, HOSTILE, up=True)),
    },
    "images": {"hypervisors": {"one": "docker", "two": "QEMU"}, "images": (Image(HOSTILE, "base", "docker", ""),)},
    "tasks": {"servers": (Server(HOSTILE, "one", "ACTIVE", "rebooting", 3600.0),)},
}


@pytest.mark.parametrize("name", TOLD)
def test_what_strangers_say_is_one_word_of_a_command_that_is_advised(name):
    (finding,) = found(Fake(**TOLD[name]), name)
    assert finding.cure.count(f"'{HOSTILE}'") == finding.cure.count(HOSTILE) == 1


def test_a_provider_of_a_host_that_is_gone_is_found():
    agents = (*Fake().agents, Service(CHASSIS, "gone", up=True))
    (finding,) = found(Fake(providers=frozenset({"one", "gone", "a-gpu"}), agents=agents), "providers")
    assert "provider gone" in finding.brief


def test_a_disabled_host_is_a_note():
    (finding,) = found(Fake(services=(Service("nova-compute", "one", True, False, "repair"),)), "compute-services")
    assert finding.note
    assert "repair" in finding.brief


def test_beside_kvm_an_image_has_to_say_whose_it_is():
    cloud = Fake(hypervisors={"one": "docker", "two": "qemu"}, agents=())
    ours, theirs = found(cloud, "images")
    assert "container image base" in ours.brief
    assert "vm (i2)" in theirs.brief
    assert theirs.mend is None
    ours.mend.act()
    assert cloud.claimed == ["i1"]
    named = (Image("i1", "base", "docker", "docker"), Image("i2", "vm", "bare", "kvm"))
    assert found(Fake(hypervisors=cloud.hypervisors, images=named), "images") == []


def test_each_check_of_a_cloud_is_proven_here():
    assert {check.name for check in CLOUD} == {*FAULTS, "images"}


# -- the APIs ---------------------------------------------------------------------------------------------------------

LISTINGS = {
    "/servers/detail": {
        "servers": [
            {"id": "s1", "status": "ACTIVE", "OS-EXT-SRV-ATTR:host": "one", "updated": "2026-01-01T00:00:00Z"},
            {"id": "s2", "status": "BUILD", "OS-EXT-STS:task_state": "spawning"},
        ]
    },
    "/servers": {"servers": [{"id": "s1"}, {"id": "s2"}]},
    "/os-services": {
        "services": [
            {
                "id": "1",
                "binary": "nova-compute",
                "host": "one",
                "state": "up",
                "status": "disabled",
                "disabled_reason": "r",
            }
        ]
    },
    "/os-hypervisors/detail": {"hypervisors": [{"id": "h", "hypervisor_hostname": "one", "hypervisor_type": "docker"}]},
    "/agents": {"agents": [{"id": "a", "agent_type": CHASSIS, "host": "one", "alive": True}]},
    "/images": {
        "images": [
            {"id": "i1", "name": "base", "container_format": "docker", "img_hv_type": "docker"},
            {"id": "i2", "name": "vm", "container_format": "bare"},
        ]
    },
}


@pytest.fixture
def apis(tmp_path, monkeypatch):
    with cloud_services.running(cloud_services.Apis()) as (made,):
        made.listings = LISTINGS
        (tmp_path / "clouds.yaml").write_text(
            "clouds: {theirs: {region_name: RegionOne, interface: internal, auth: {username: nova, password: nova-pw, "
            f"project_name: p, user_domain_name: d, project_domain_name: d, auth_url: {made.url}/identity}}}}}}\n"
        )
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        yield made


def test_the_apis_are_read_as_they_answer(apis):
    cloud = Cloud("theirs")
    assert cloud.know_servers() == {"s1", "s2"}
    first, second = cloud.servers
    assert (first.id, first.host, first.status, first.task) == ("s1", "one", "ACTIVE", "")
    assert first.idle > 86400
    assert (second.task, second.idle) == ("spawning", 0.0)
    assert cloud.services == (Service("nova-compute", "one", True, False, "r"),)
    assert cloud.hypervisors == {"one": "docker"}
    assert cloud.agents == (Service(CHASSIS, "one", True),)
    assert cloud.images == (Image("i1", "base", "docker", "docker"), Image("i2", "vm", "bare", ""))
    assert cloud.providers == {"one"}
    assert cloud.largest_mtu == 1442
    assert cloud.microversion == (2, 104)


def test_an_image_is_claimed_by_its_property_and_nothing_else(apis):
    Cloud("theirs").claim_image(Image("i9", "base", "docker", ""))
    ((path, content),) = apis.sent
    assert path.endswith("/images/i9")
    assert content == [{"op": "add", "path": "/img_hv_type", "value": "docker"}]


def test_who_is_no_administrator_asks_no_cloud(apis):
    apis.forbidden = ("/compute/v2.1/os-services",)
    with pytest.raises(NoCloudError, match="no administrator"):
        Cloud("theirs")


def test_servers_that_went_while_hosts_were_looked_at_are_still_known(apis):
    cloud = Cloud("theirs")
    cloud.know_servers()
    apis.listings = {**LISTINGS, "/servers": {"servers": [{"id": "s3"}]}}
    assert cloud.know_servers() == {"s1", "s2", "s3"}


def test_a_service_that_does_not_answer_is_named_and_the_other_checks_go_on(apis):
    cloud = Cloud("theirs")
    apis.forbidden = ("/placement/resource_providers",)
    (finding,) = found(cloud, "providers")
    assert finding.brief.startswith("Placement does not answer")
    assert found(cloud, "agents") == []
