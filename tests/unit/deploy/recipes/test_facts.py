# SPDX-License-Identifier: Apache-2.0
import pytest

from dockstack.deploy.configuration.settings import SECRET_NAMES, ImageQuotas
from dockstack.deploy.hypervisors import Contribution
from dockstack.deploy.recipes.facts import settings_from, usable_resolvers
from dockstack.deploy.wanted.attributes import command_line_values, resolve
from dockstack.deploy.wanted.catalogue import CATALOGUE
from dockstack.errors import DockstackError

DOCKER = Contribution("docker.DockerDriver", container_formats=("docker",), nova=(("docker", (("timeout", "5"),)),))


def settings(*assignments, contribution=DOCKER, resolvers=(), datapath="system"):
    attributes = resolve(CATALOGUE, [command_line_values(assignments)])
    secrets = dict.fromkeys(SECRET_NAMES, "x")
    return settings_from(attributes, contribution, secrets, hostname="node1", datapath=datapath, resolvers=resolvers)


def test_the_hypervisor_adds_to_what_the_attributes_say():
    made = settings("image.container_formats=[mine]")
    assert made.container_formats[-2:] == ("mine", "docker")
    assert made.compute_driver == "docker.DockerDriver"


def test_quotas_are_what_the_attributes_say():
    quotas = ("image.quota_gb=1", "image.quota_staged_gb=2", "image.quota_count=3", "image.quota_uploads=-1")
    made = settings(*quotas, "image.largest_gb=4")
    assert (made.image_quotas, made.image_size_limit_gb) == (ImageQuotas(1, 2, 3, -1), 4)
    assert settings().image_quotas == ImageQuotas()


def test_a_controller_without_servers_has_no_driver():
    assert settings(contribution=None).compute_driver == ""


def test_everything_is_on_loopback_by_default():
    made = settings()
    assert (made.bind_address, made.controller_address, made.tunnel_address) == ("127.0.0.1",) * 3


def test_an_open_listener_does_not_end_up_in_the_catalogue():
    assert settings("listen_address=0.0.0.0").controller_address == "127.0.0.1"
    assert settings("listen_address=0.0.0.0", "public_address=192.0.2.9").controller_address == "192.0.2.9"


@pytest.mark.parametrize(
    ("assignment", "datapath", "unfinished"),
    [
        ("network.encap_ip=192.0.2.9", "netdev", False),
        ("network.encap_ip=192.0.2.9", "system", True),
        ("hosts=2", "netdev", False),
        ("hosts=1", "netdev", True),
    ],
)
def test_servers_behind_tunnels_of_the_userspace_switch_finish_their_checksums(assignment, datapath, unfinished):
    made = settings(assignment, datapath=datapath)
    assert (("checksum_offload", "false") not in made.hypervisor_options[0][1]) is unfinished


@pytest.mark.parametrize(
    ("assignment", "sends"), [("network.encap_ip=192.0.2.9", True), ("hosts=2", True), ("hosts=1", False)]
)
def test_servers_move_by_ssh_where_there_may_be_another_host(assignment, sends):
    assert (("migration_transport", "ssh") in settings(assignment).hypervisor_options[0][1]) is sends


def test_floating_addresses_leave_the_first_ones_free():
    assert settings().networks.external_pool == ("198.51.100.10", "198.51.100.254")


@pytest.mark.parametrize(
    ("cidr", "gateway", "pool"),
    [
        ("192.0.2.0/24", "192.0.2.254", ("192.0.2.10", "192.0.2.253")),
        ("192.0.2.0/24", "192.0.2.100", ("192.0.2.101", "192.0.2.254")),
        ("192.0.2.0/29", "192.0.2.1", ("192.0.2.6", "192.0.2.6")),
    ],
)
def test_floating_addresses_never_hold_the_gateway(cidr, gateway, pool):
    made = settings(f"network.external_cidr={cidr}", f"network.external_gateway={gateway}")
    assert made.networks.external_pool == pool


def test_a_gateway_outside_its_network_is_refused():
    with pytest.raises(DockstackError, match="is not in"):
        settings("network.external_cidr=192.0.2.0/24")


def test_name_servers_of_this_machine_serve_servers_unless_they_are_its_own():
    assert usable_resolvers(("127.0.0.53", "10.0.0.53", "fd00::53", "nonsense")) == ("10.0.0.53",)
    assert settings(resolvers=("10.0.0.53",)).networks.dns_servers == ("10.0.0.53",)
    assert settings("network.dns=[192.0.2.53]", resolvers=("10.0.0.53",)).networks.dns_servers == ("192.0.2.53",)
