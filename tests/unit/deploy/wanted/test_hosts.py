# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.configuration import extra_hosts, programs, scripts
from dockstack.deploy.configuration.nova import nova_conf
from dockstack.deploy.configuration.openvswitch import open_vswitch_settings
from dockstack.deploy.configuration.settings import SECRET_NAMES, Settings
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.recipes.facts import settings_from
from dockstack.deploy.run import plan
from dockstack.deploy.supervision.backends import supervisor, systemd
from dockstack.deploy.supervision.services import Check, CheckKind, Service
from dockstack.deploy.wanted import hosts, inventory
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

ENTER = ("/usr/bin/nsenter", "--net=/run/netns/dockstack-host2", "--mount=/run/dockstack/hosts/host2.mnt", "--")
SECOND = hosts.ExtraHost("host2", "node-2.example.org", "198.19.77.2/24", "198.19.77.1/24")


@pytest.fixture
def settings():
    return Settings(secrets=dict.fromkeys(SECRET_NAMES, "x"), hostname="node.example.org", datapath="netdev", hosts=2)


def attributes(*assignments):
    return inventory.load(None, assignments).local.attributes


def test_a_machine_is_one_host_unless_more_are_asked_for():
    assert hosts.extra_hosts(attributes(), "node") == ()
    assert hosts.machine_tunnel_address(attributes()) == "127.0.0.1"


def test_hosts_have_names_and_addresses_of_their_own():
    third = hosts.ExtraHost("host3", "node-3.example.org", "198.19.77.3/24", "198.19.77.1/24")
    assert hosts.extra_hosts(attributes("hosts=3"), "node.example.org") == (SECOND, third)
    assert hosts.machine_tunnel_address(attributes("hosts=3")) == "198.19.77.1"


@pytest.mark.parametrize(
    "wrong", [["network.hosts_cidr=198.19.77.0/30"], ["network.encap_ip=192.0.2.7"], ["network.hosts_cidr=fd00::/64"]]
)
def test_an_impossible_number_is_refused(wrong):
    with pytest.raises(DockstackError):
        hosts.extra_hosts(attributes("hosts=3", *wrong), "node")


@pytest.mark.parametrize("count", [0, 10])
def test_the_number_of_hosts_has_bounds(count):
    with pytest.raises(DockstackError, match="hosts"):
        attributes(f"hosts={count}")


def test_what_was_asked_for_is_remembered_until_something_else_is_asked_for(tmp_path):
    saved = tmp_path / "saved-options.yaml"
    inventory.remember(saved, {"hosts": 2})
    setting = inventory.load(None, saved_options=saved).local.attributes.setting("hosts")
    assert (setting.value, setting.source) == (2, f"an earlier run ({saved})")
    assert inventory.load(None, ["hosts=1"], saved_options=saved).local.attributes["hosts"] == 1
    assert saved.stat().st_mode & 0o777 == 0o644


def test_options_that_an_earlier_version_saved_are_kept_and_moved(tmp_path):
    saved, earlier = tmp_path / "saved-options.yaml", tmp_path / "asked.yaml"
    earlier.write_text("hosts: 2\n")
    assert inventory.load(None, saved_options=saved).local.attributes["hosts"] == 2
    inventory.remember(saved, {})
    assert not earlier.exists()
    assert inventory.load(None, saved_options=saved).local.attributes["hosts"] == 2
    earlier.write_text("hosts: 5\n")  # one that came back is not listened to
    assert inventory.load(None, saved_options=saved).local.attributes["hosts"] == 2


def test_nothing_is_saved_where_nothing_was_asked_for(tmp_path):
    inventory.remember(tmp_path / "saved-options.yaml", {})
    assert list(tmp_path.iterdir()) == []


def test_an_environment_file_wins_over_what_was_asked_for_earlier(tmp_path):
    inventory.remember(tmp_path / "saved-options.yaml", {"hosts": 2})
    (tmp_path / "environment.yaml").write_text("attributes: {hosts: 3}")
    found = inventory.load(tmp_path / "environment.yaml", saved_options=tmp_path / "saved-options.yaml")
    assert found.local.attributes["hosts"] == 3


@pytest.mark.parametrize(
    ("path", "outside"),
    [
        ("/run/openvswitch/db.sock", "/run/dockstack/hosts/host2/openvswitch/db.sock"),
        ("/etc/nova/nova.conf", "/var/lib/dockstack/hosts/host2/etc/nova/nova.conf"),
        ("/etc/docker/daemon.json", "/etc/docker/daemon.json"),
        ("/var/lib/novation", "/var/lib/novation"),
    ],
)
def test_a_hosts_files_are_found_from_the_machine(path, outside):
    assert hosts.outside("host2", path) == outside


def test_services_tell_which_hosts_there_are():
    assert hosts.keys_of(["host10-docker", "host2-ovsdb", "host2-docker", "nova-compute", "hostess-x"]) == (
        "host2",
        "host10",
    )


def test_an_ordinary_service_enters_its_host():
    service = Service(
        name="ovs-vswitchd",
        title="Datapath",
        command=("/usr/sbin/ovs-vswitchd",),
        log="/var/log/openvswitch/ovs-vswitchd.log",
        requires=("ovsdb", "rabbitmq"),
        prepare=(("/opt/dockstack/libexec/prepare-ovs-vswitchd", "x"),),
        check=Check(CheckKind.UNIX, "/run/openvswitch/db.sock"),
        watch=("/etc/nova/nova.conf", "/opt/dockstack/libexec/prepare-ovs-vswitchd"),
        unit="openvswitch-switch.service",
        replaces=("openvswitch-switch.service",),
    )
    prepare = "/opt/dockstack/libexec/host2/prepare-host"
    assert extra_hosts.entered(service, "host2", {"ovsdb"}) == Service(
        name="host2-ovs-vswitchd",
        title="Datapath, on host2",
        command=("/usr/sbin/ovs-vswitchd",),
        log="/var/log/openvswitch/host2-ovs-vswitchd.log",
        requires=("host2-ovsdb", "rabbitmq"),
        prepare=((prepare,), (*ENTER, "/opt/dockstack/libexec/host2/prepare-ovs-vswitchd", "x")),
        check=Check(CheckKind.UNIX, "/run/dockstack/hosts/host2/openvswitch/db.sock"),
        watch=(
            prepare,
            "/var/lib/dockstack/hosts/host2/etc/nova/nova.conf",
            "/opt/dockstack/libexec/host2/prepare-ovs-vswitchd",
        ),
        inside="host2",
    )


def test_systemd_and_supervisor_start_it_as_root_who_becomes_the_user_inside():
    service = Service(name="host2-x", command=("/bin/x",), user="nova", groups=("docker",), inside="host2")
    line = "/usr/bin/setpriv --reuid=nova --regid=nova --groups=docker -- /bin/x"
    unit, program = systemd.render(service), supervisor.render(service)
    assert f"ExecStart={' '.join(ENTER)} {line}\n" in unit
    assert "User=root\n" in unit
    assert "SupplementaryGroups" not in unit
    assert f"command={' '.join(ENTER)} {line}\n" in program
    assert "user=root\n" in program


def test_the_cables_are_laid_between_the_switch_and_ovn(settings):
    *_, controller = extra_hosts.network_services(settings, DEBIAN_12, "host2")
    assert [command[-1].rpartition("/")[2] for command in controller.prepare] == [
        "prepare-host",
        "prepare-cables",
        "ovn",  # the run directory
        "prepare-external-bridge",
    ]
    assert controller.requires == ("host2-ovs-vswitchd", "ovn-sb", "ovs-vswitchd")


def test_nova_compute_waits_for_its_engine_and_the_way_to_the_controller(settings):
    (service,) = extra_hosts.compute_services(settings, "host2", ("docker",), (), "docker")
    assert service.requires == ("rabbitmq", "host2-ovs-vswitchd", "host2-uplink", "host2-docker")
    (without,) = extra_hosts.compute_services(settings, "host2", (), (), None)
    assert without.requires == ("rabbitmq", "host2-ovs-vswitchd", "host2-uplink")


def test_scripts_stand_in_the_hosts_own_directory(settings):
    for path in extra_hosts.all_scripts(settings, SECOND, "/var/lib/docker"):
        assert path.startswith("/opt/dockstack/libexec/host2/")


def test_another_controller_address_is_the_hosts_own_so_that_it_can_be_forwarded(settings):
    script = extra_hosts.prepare_host(
        Settings(secrets={}, hostname="a", controller_address="192.0.2.9"), SECOND, "/srv/docker"
    )
    assert "\ncontroller=192.0.2.9\n" in script
    assert "/srv/docker" in script
    assert "\ncontroller=''\n" in extra_hosts.prepare_host(settings, SECOND, "/var/lib/docker")


def test_only_the_hosts_loopback_is_forwarded_and_only_to_the_controller(settings):
    lines = extra_hosts.uplink_cfg(settings, "host2").splitlines()
    binds = [line.split() for line in lines if line.startswith("    bind")]
    assert all(bind[2:] == ["namespace", "dockstack-host2"] for bind in binds)
    assert {bind[1].rpartition(":")[0] for bind in binds} == {"127.0.0.1"}
    assert "    server controller 127.0.0.1:5672" in lines


def test_a_further_host_is_no_gateway_and_has_a_name_and_tunnel_of_its_own(settings):
    inside = extra_hosts.settings_on(settings, SECOND)
    assert nova_conf(inside)["DEFAULT"]["host"] == "node-2.example.org"
    values = open_vswitch_settings(inside)
    assert "external-ids:ovn-encap-ip=198.19.77.2" in values
    assert "external-ids:system-id=node-2.example.org" in values
    assert not [value for value in values if "cms-options" in value]
    assert "chassis-as-gw" not in scripts.open_vswitch_configuration(inside)
    assert "\nchassis_options=enable-chassis-as-gw\n" in scripts.open_vswitch_configuration(settings)


@pytest.mark.parametrize(
    ("assignment", "datapath", "expected"),
    [("hosts=2", "netdev", "false"), ("hosts=2", "system", None), ("hosts=1", "netdev", None)],
)
def test_checksums_are_finished_where_the_switch_would_drop_them_at_a_tunnel(assignment, datapath, expected):
    node = inventory.load(None, [assignment]).local
    contribution = chosen(node).contribution()
    found = settings_from(node.attributes, contribution, {}, hostname="a", datapath=datapath)
    assert dict(dict(found.hypervisor_options)["docker"]).get("checksum_offload") == expected


def test_with_several_hosts_nova_may_try_another(settings):
    assert nova_conf(settings)["scheduler"]["max_attempts"] == "2"
    assert nova_conf(Settings(settings.secrets, "a"))["scheduler"]["max_attempts"] == "1"


@pytest.mark.parametrize("hypervisor", ["docker", "fake"])
def test_each_host_has_stages_that_fit_together(hypervisor):
    names = {
        stage.name for stage in plan.node_stages(inventory.load(None, ["hosts=3", f"hypervisor={hypervisor}"]).local)
    }
    for key in ("host2", "host3"):
        assert {f"{key}-{each}" for each in ("files", "switch", "engine", "compute", "agent", "ready")} <= names
    assert "host2-files" not in {stage.name for stage in plan.node_stages(inventory.load(None).local)}


def test_every_network_service_of_a_node_that_runs_servers_is_entered(settings):
    central = {"ovn-nb", "ovn-sb", "ovn-northd"}
    assert {
        service.name for service in programs.network_fabric(settings, DEBIAN_12)
    } - central <= extra_hosts.OWN_SERVICES
