# SPDX-License-Identifier: Apache-2.0
"""Nova's objects, and what becomes of them in the model."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import pytest
from nova import context as nova_context
from nova import exception, objects, test
from nova.compute import provider_tree
from nova.network import model as network_model
from nova.tests import fixtures as nova_fixtures
from nova.tests.unit import fake_instance
from nova.virt import driver as virt_driver
from nova.virt import fake
from nova_case import IMAGE, DockerImages, InMemoryHost, PytestFriendly

from dockstack.compute.driver import DockerDriver
from dockstack.compute.model import Address, Confinement, Image, Port, Route
from dockstack.compute.nova_api import glance, placement, security_profile, servers
from dockstack.oci.documents import ImageRejected

pytestmark = pytest.mark.functional


def ip(address):
    return network_model.IP(address=address)


def make_vif(**changes):
    subnets = [
        network_model.Subnet(
            cidr="10.0.0.0/24",
            gateway=ip("10.0.0.1"),
            dns=[ip("9.9.9.9"), ip("8.8.8.8")],
            ips=[network_model.FixedIP(address="10.0.0.5")],
            routes=[network_model.Route(cidr="10.9.0.0/16", gateway=ip("10.0.0.254"))],
            dhcp_server="10.0.0.2",
        ),
        network_model.Subnet(
            cidr="fd00::/64", gateway=ip("fd00::1"), dns=[ip("9.9.9.9")], ips=[network_model.FixedIP(address="fd00::5")]
        ),
        network_model.Subnet(cidr="10.1.0.0/24", gateway=ip("10.1.0.1"), dns=[ip("1.1.1.1")]),
    ]
    fields = {
        "id": "11111111-2222-3333-4444-555555555555",
        "address": "fa:16:3e:00:00:01",
        "network": network_model.Network(id="net", bridge="br-int", subnets=subnets, mtu=1442),
        "type": "ovs",
        "devname": "tap11111111-22",
        "details": {"port_filter": True},
        "active": False,
    }
    return network_model.VIF(**(fields | changes))


def test_a_port_in_full():
    assert servers.build_ports(network_model.NetworkInfo([make_vif()])) == (
        Port(
            id="11111111-2222-3333-4444-555555555555",
            mac="fa:16:3e:00:00:01",
            device="tap11111111-22",
            interface="eth0",
            network_id="net",
            mtu=1442,
            bridge="br-int",
            vif_type="ovs",
            addresses=(Address("10.0.0.5/24", "10.0.0.1", "10.0.0.2"), Address("fd00::5/64", "fd00::1")),
            routes=(Route("10.9.0.0/16", "10.0.0.254"),),
            dns=("9.9.9.9", "8.8.8.8"),
            active=False,
        ),
    )


def test_a_port_whose_agent_filters_on_a_bridge_is_known_as_such():
    hybrid = make_vif(details={"port_filter": True, "ovs_hybrid_plug": True, "bridge_name": "br-int"})
    (port,) = servers.build_ports([hybrid])
    assert port.bridged


def test_interfaces_follow_the_order_of_the_request():
    second = make_vif(id="22222222-2222-3333-4444-555555555555", devname=None, active=True)
    first, other = servers.build_ports([make_vif(), second])
    assert (first.interface, other.interface) == ("eth0", "eth1")
    assert other.device == "tap22222222-22"
    assert other.active


def test_a_port_without_addresses():
    empty = network_model.Network(id="net", bridge=None, subnets=[])
    (port,) = servers.build_ports([make_vif(network=empty)])
    assert (port.addresses, port.routes, port.dns, port.mtu, port.bridge) == ((), (), (), 1500, "br-int")


def test_no_network():
    assert servers.build_ports(None) == ()


@pytest.mark.parametrize("kind", ["binding_failed", "unbound"])
def test_an_unbound_port_is_refused_at_the_start_but_not_in_the_way_of_a_delete(kind):
    network_info = [make_vif(type=kind)]
    with pytest.raises(exception.VirtualInterfacePlugException, match="could not bind port 1111"):
        servers.refuse_unbound(network_info)
    assert len(servers.build_ports(network_info)) == 1


class TranslationCase(PytestFriendly, test.TestCase):
    def setUp(self):
        super().setUp()
        self.world = self.useFixture(InMemoryHost()).world
        self.context = nova_context.RequestContext("user", "project")
        self.driver = DockerDriver(fake.FakeVirtAPI())

    def instance(self, specs=None, **changes):
        flavor = objects.Flavor(name="m1", vcpus=2, memory_mb=512, root_gb=3, swap=0, extra_specs=specs or {})
        return fake_instance.fake_instance_obj(
            self.context,
            flavor=flavor,
            metadata={},
            system_metadata={},
            expected_attrs=["metadata", "system_metadata"],
            **changes,
        )


class TestInstances(TranslationCase):
    def test_only_a_flavor_says_how_closely_a_server_is_kept(self):
        assert security_profile.build_confinement(self.instance()) == Confinement()
        instance = self.instance({"docker:no_new_privileges": "True"})
        assert servers.describe(instance).confinement == Confinement(no_new_privileges=True)

    def test_a_flavor_may_open_what_is_closed(self):
        instance = self.instance(
            {
                "docker:privileged": "true",
                "docker:cap_add": "CAP_NET_ADMIN, sys_admin",
                "docker:cap_drop": "NET_RAW",
                "docker:devices": "/dev/fuse,/dev/net/tun",
                "docker:runtime": "dockstack-crun",
            }
        )
        self.flags(allowed_runtimes=["dockstack-crun"], group="docker")
        security_profile.refuse_unreadable(instance)
        assert security_profile.build_confinement(instance) == Confinement(
            privileged=True,
            cap_add=("NET_ADMIN", "SYS_ADMIN"),
            cap_drop=("NET_RAW",),
            devices=("/dev/fuse", "/dev/net/tun"),
            runtime="dockstack-crun",
        )

    def test_what_a_flavor_may_not_open(self):
        for specs, reason in (
            ({"docker:privileged": "si"}, "docker:privileged must be true or false"),
            ({"docker:cap_add": "NET ADMIN"}, "docker:cap_add must list capabilities such as NET_ADMIN"),
            ({"docker:cap_drop": "7"}, "docker:cap_drop must list"),
            ({"docker:devices": "/etc/shadow"}, "docker:devices must list device nodes"),
            ({"docker:devices": "/dev/../etc/shadow"}, "docker:devices must list device nodes"),
            ({"docker:volume_mounts": "fuse"}, "docker:volume_mounts must be none or kernel"),
            ({"docker:runtime": "runc"}, "docker:runtime is 'runc', but .* has none"),
        ):
            with pytest.raises(exception.BuildAbortException, match=reason):
                security_profile.refuse_unreadable(self.instance(specs))

    def test_a_flavor_narrows_how_volumes_are_mounted_and_never_widens_it(self):
        for allowed, wished, found in (
            ("kernel", "none", "none"),
            ("kernel", "kernel", "kernel"),
            ("none", "kernel", "none"),
            ("kernel", "anyhow", "none"),
        ):
            self.flags(volume_mounts=allowed, group="docker")
            instance = self.instance({"docker:volume_mounts": wished})
            assert security_profile.build_confinement(instance).volume_mounts == found

    def test_a_safety_spec_that_says_nothing_is_refused_but_keeps_no_server_from_being_deleted(self):
        instance = self.instance({"docker:no_new_privileges": "perhaps"})
        with pytest.raises(exception.BuildAbortException, match="docker:no_new_privileges must be true or false"):
            servers.refuse_unsupported(instance, None)
        assert servers.describe(instance).confinement == Confinement(no_new_privileges=True)

    def test_a_server(self):
        instance = self.instance(display_name="wéb", hostname="web", key_data="ssh-ed25519 AAAA")
        found = servers.build_server(instance, Image(id="i", name="n"), (), "secret")
        assert (found.name, found.hostname, found.key_data) == ("wéb", "web", "ssh-ed25519 AAAA")
        assert found.admin_password == "secret"
        assert "secret" not in repr(found)

    def test_what_is_not_supported_is_refused(self):
        instance = self.instance()
        with pytest.raises(exception.BuildAbortException, match="accelerators"):
            servers.refuse_unsupported(instance, [{"uuid": "arq"}])
        servers.refuse_unsupported(instance, [])


class TestImages(TranslationCase):
    def setUp(self):
        super().setUp()
        self.images = self.useFixture(DockerImages(self.useFixture(nova_fixtures.GlanceFixture(self))))

    def test_properties_that_nova_does_not_know_are_kept(self):
        found = glance.read_image(self.context, IMAGE)
        assert found.properties["docker_env_COLOUR"] == "green"
        assert found.container_format == "docker"
        assert found.size == len(self.images.data[IMAGE])
        assert found.checksum == "ab" * 64

    def test_a_missing_image_is_nova_s_own_error(self):
        with pytest.raises(exception.ImageNotFound):
            glance.read_image(self.context, "5e1f7ad6-2a5c-4d3e-9f6e-0000000000ff")

    def test_an_image_that_a_project_may_not_see_is_missing_to_it(self):
        for number, (visibility, shared, readers) in enumerate(
            (
                ("private", False, {"theirs"}),
                ("private", True, {"theirs"}),  # what was shared once is not any more
                ("shared", False, {"theirs"}),
                ("shared", True, {"theirs", "ours"}),
                ("community", False, {"theirs", "ours", "others"}),
            )
        ):
            image_id = f"5e1f7ad6-2a5c-4d3e-9f6e-0000000000f{number}"
            self.images.add(image_id, b"x", owner="theirs", visibility=visibility)
            if shared:
                self.images.members.add((image_id, "ours"))
            for project in ("theirs", "ours", "others"):
                if project in readers:
                    assert glance.read_image_for(self.context, image_id, project).id == image_id
                else:
                    with pytest.raises(exception.ImageNotFound):
                        glance.read_image_for(self.context, image_id, project)
        assert glance.read_image_for(self.context, IMAGE, "others").id == IMAGE

    def test_data(self):
        image = glance.read_image(self.context, IMAGE)
        with glance.reading_as(self.context):
            assert b"".join(glance.download_image(image)) == self.images.data[IMAGE]

    def test_signed_data_goes_through_nova_s_verification(self):
        asked = []
        download = self.images.glance.download

        def verify(context, image_id, data=None, dst_path=None, trusted_certs=None):
            asked.append(trusted_certs)
            return download(context, image_id, data, dst_path)

        self.stub_out("nova.tests.fixtures.glance.GlanceFixture.download", verify)
        self.images.glance.download = verify
        certs = objects.TrustedCerts(ids=["c"])
        image = glance.read_image(self.context, IMAGE)
        with glance.reading_as(self.context, certs):
            assert b"".join(glance.download_image(image)) == self.images.data[IMAGE]
        assert asked == [certs]

    def test_an_image_larger_than_any_that_is_unpacked_is_not_downloaded(self):
        self.flags(image_max_unpacked_mb=1, group="docker")
        image = dataclasses.replace(glance.read_image(self.context, IMAGE), size=(2 << 20) + 1)
        self.stub_out("nova.tests.fixtures.glance.GlanceFixture.download", self.fail)
        for certs in (None, objects.TrustedCerts(ids=["c"])):
            with glance.reading_as(self.context, certs), pytest.raises(ImageRejected, match="more than"):
                b"".join(glance.download_image(image))

    def test_signed_data_are_bounded_while_they_are_written(self):
        written = []

        def endless(_fixture, context, image_id, data=None, dst_path=None, trusted_certs=None):
            while True:
                data.write(bytes(1000))
                written.append(1000)

        self.stub_out("nova.tests.fixtures.glance.GlanceFixture.download", endless)
        self.images.glance.download = functools.partial(endless, None)
        self.flags(image_max_unpacked_mb=1, group="docker")
        known = glance.read_image(self.context, IMAGE)
        for size, most in ((known.size, known.size), (None, 2 << 20)):
            written.clear()
            image = dataclasses.replace(known, size=size)
            with glance.reading_as(self.context, objects.TrustedCerts(ids=["c"])), pytest.raises(ImageRejected):
                b"".join(glance.download_image(image))
            assert sum(written) <= most


class TestHost(TranslationCase):
    def tree(self):
        tree = provider_tree.ProviderTree()
        tree.new_root("fake-mini", "0fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11")
        return tree

    def test_initial_ratios_reach_placement_once_then_the_operators_stay(self):
        self.flags(initial_cpu_allocation_ratio=4.0, reserved_host_memory_mb=1, reserved_host_disk_mb=1025)
        tree = self.tree()
        self.driver.update_provider_tree(tree, "fake-mini")
        first = tree.data("fake-mini").inventory
        assert first["VCPU"]["allocation_ratio"] == 4.0
        assert first["MEMORY_MB"]["reserved"] == 1
        assert first["DISK_GB"]["reserved"] == 2

        first["VCPU"]["allocation_ratio"] = 9.0  # an operator, through Placement's API
        tree.update_inventory("fake-mini", first)
        self.driver.update_provider_tree(tree, "fake-mini")
        assert tree.data("fake-mini").inventory["VCPU"]["allocation_ratio"] == 9.0
        self.flags(cpu_allocation_ratio=2.0)
        self.driver.update_provider_tree(tree, "fake-mini")
        assert tree.data("fake-mini").inventory["VCPU"]["allocation_ratio"] == 2.0

    def test_resources_cost_one_listing(self):
        self.driver.get_available_resource("fake-mini")
        self.world.calls.clear()
        found = self.driver.get_available_resource("fake-mini")
        assert self.world.calls == ["containers"]
        assert found["supported_instances"] == [("x86_64", "docker", "exe")]
        assert found["hypervisor_version"] == 20_010_024

    def test_an_absent_engine_is_not_ready(self):
        self.world.engine_up = False
        for ask in (self.driver.get_num_instances, lambda: self.driver.get_available_resource("fake-mini")):
            with pytest.raises(exception.VirtDriverNotReady, match="did not answer"):
                ask()
        with pytest.raises(exception.HypervisorUnavailable, match="did not answer"):
            self.driver.get_info(self.instance())

    def test_capabilities_are_those_that_nova_knows(self):
        assert self.driver.capabilities.keys() == virt_driver.ComputeDriver.capabilities.keys()


class TestPlacement(TranslationCase):
    def test_allocations_are_read_only_where_pci_devices_are_tracked(self):
        client = SimpleNamespace(get_allocations_for_provider_tree=lambda context, nodename: {"server": {}})
        virtapi = SimpleNamespace(_compute=SimpleNamespace(rt=SimpleNamespace(reportclient=client)))

        self.flags(report_in_placement=True, group="pci")
        placement.spare_allocations(virtapi)
        assert client.get_allocations_for_provider_tree(None, "host") == {"server": {}}
        self.flags(report_in_placement=False, group="pci")
        placement.spare_allocations(virtapi)
        assert client.get_allocations_for_provider_tree(None, "host") == {}
        placement.spare_allocations(None)  # as some of Nova's tests make drivers
