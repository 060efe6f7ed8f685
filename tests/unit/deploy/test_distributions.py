# SPDX-License-Identifier: Apache-2.0
"""What recipes do on each distribution: the names of packages, units and accounts, and paths, spelled out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy import distributions
from dockstack.deploy.configuration import programs
from dockstack.deploy.configuration.migration import server
from dockstack.deploy.configuration.settings import SECRET_NAMES, Settings
from dockstack.deploy.distributions import DEBIAN_12, DEBIAN_13, RHEL_9, SID, UBUNTU_24_04
from dockstack.deploy.external_programs import PROGRAMS
from dockstack.deploy.hypervisors import lxcfs
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node import environments
from dockstack.deploy.recipes import packages
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.supervision.backends import systemd
from dockstack.deploy.wanted.catalogue import CATALOGUE
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

OS_RELEASES = {
    "debian-12": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n',
    "debian-13": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n',
    "debian-sid": 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n',
    "ubuntu-24.04": 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n',
    "rhel-9": 'NAME="Red Hat Enterprise Linux"\nID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.6"\n',
}
DEBIANS_PACKAGES = (
    *("fonts-dejavu-core", "haproxy", "iproute2", "iptables", "iputils-ping", "kmod", "mariadb-client-core"),
    *("mariadb-server-core", "memcached", "openvswitch-switch", "ovn-central", "ovn-host", "procps"),
    *("rabbitmq-server", "sudo"),
)
DEBIANS_UNITS = (
    *("epmd.service", "epmd.socket", "haproxy.service", "memcached.service", "openvswitch-switch.service"),
    *("ovn-central.service", "ovn-controller.service", "ovn-host.service", "ovn-northd.service"),
    *("ovn-ovsdb-server-nb.service", "ovn-ovsdb-server-sb.service", "ovs-record-hostname.service"),
    *("ovs-vswitchd.service", "ovsdb-server.service", "rabbitmq-server.service"),
)
# Its package starts the second, and that the third and the fourth, where only the first is masked.
DEBIANS_SWITCH = (
    *("openvswitch-switch.service", "ovs-record-hostname.service", "ovs-vswitchd.service", "ovsdb-server.service"),
)
PACKAGES = {
    **dict.fromkeys(("debian-12", "debian-13", "debian-sid", "ubuntu-24.04"), DEBIANS_PACKAGES),
    "rhel-9": (
        *("dejavu-sans-mono-fonts", "haproxy", "iproute", "iptables-nft", "iputils", "kmod", "mariadb"),
        *("mariadb-server", "memcached", "openvswitch", "ovn-central", "ovn-host", "procps-ng"),
        *("rabbitmq-server", "sudo"),
    ),
}
UNITS = {
    **dict.fromkeys(("debian-12", "debian-13", "debian-sid", "ubuntu-24.04"), DEBIANS_UNITS),
    "rhel-9": (
        *("epmd.service", "epmd.socket", "haproxy.service", "mariadb.service", "memcached.service"),
        *("openvswitch.service", "ovn-controller.service", "ovn-northd.service", "rabbitmq-server.service"),
    ),
}
ENGINES = {
    "debian-12": ("docker.io",),
    "debian-13": ("docker.io", "docker-cli"),
    "debian-sid": ("docker.io", "docker-cli"),
    "ubuntu-24.04": ("docker.io",),
    "rhel-9": ("docker-ce", "docker-ce-cli"),
}
LXCFS_MAY_END_WITH = {"debian-12": (), "rhel-9": ()}  # 1 elsewhere

each = pytest.mark.parametrize("distribution", distributions.ALL, ids=distributions.NAMES)


@pytest.fixture
def bare(machine, monkeypatch):
    """A machine of a distribution, by its os-release, on which nothing is installed."""

    def build(distribution, *assignments):
        absent = {"success": False}
        answers = {
            "cat /etc/os-release": OS_RELEASES[distribution.name].splitlines(),
            "ls /usr/bin/dockerd": absent,
            "command -v docker": absent,
            "cat /usr/sbin/policy-rc.d": absent,
        }
        one = machine(answers, "distribution=auto", *assignments)
        installed, held = [], []
        monkeypatch.setattr(one, "_apply", lambda _, *__, **keywords: installed.extend(keywords.get("packages", ())))
        monkeypatch.setattr(packages.distribution_units, "hold", lambda _, units: held.extend(units))
        return one, installed, held

    return build


@pytest.fixture
def settings():
    return Settings(secrets=dict.fromkeys(SECRET_NAMES, "x"), hostname="node1")


def services(settings, distribution):
    found = (
        *programs.infrastructure(replace(settings, distribution=distribution)),
        *programs.network_fabric(settings, distribution),
    )
    return {service.name: service for service in found}


def test_all_five_are_there_and_the_attribute_knows_them():
    assert set(distributions.NAMES) == set(OS_RELEASES)
    (attribute,) = (one for one in CATALOGUE if one.name == "distribution")
    assert attribute.choices == ("auto", *distributions.NAMES)


@each
def test_a_machine_is_recognised_by_its_os_release(distribution):
    assert distributions.choose("auto", OS_RELEASES[distribution.name]) is distribution


@pytest.mark.parametrize("system", ["rocky", "almalinux", "centos", "ol"])
def test_what_is_built_from_rhel_counts_as_it(system):
    assert distributions.choose("auto", f'ID="{system}"\nVERSION_ID="9"\n') is RHEL_9


@pytest.mark.parametrize(
    ("os_release", "name"),
    [
        ('PRETTY_NAME="Arch Linux"\nID=arch\n', "Arch Linux"),
        ('ID=ubuntu\nVERSION_ID="24.10"\n', "ubuntu 24.10"),
        ('ID=debian\nVERSION_ID="11"\n', "debian 11"),
        ('ID="rocky"\nVERSION_ID="10.0"\n', "rocky 10.0"),
        ("", "A system without a name"),
    ],
)
def test_others_are_refused_in_one_sentence_unless_the_attribute_names_one(os_release, name):
    with pytest.raises(DockstackError) as refused:
        distributions.choose("auto", os_release)
    known = "Debian 12, Debian 13, Debian sid, Ubuntu 24.04, RHEL 9"
    assert refused.value.brief == f"{name} is none of those that dockstack knows: {known}."
    assert "--set distribution=debian-12" in refused.value.resolution
    assert distributions.choose("debian-13", os_release) is DEBIAN_13


def test_a_node_that_is_none_of_them_is_refused_before_a_package_is_installed(machine):
    one = machine({"cat /etc/os-release": "ID=arch"}, "distribution=auto")
    with pytest.raises(DockstackError, match="arch is none of those"):
        packages.install(one)
    assert one.commands == ["cat /etc/os-release"]


@each
def test_a_whole_node_has_these_packages_and_its_units_are_held(bare, distribution):
    one, installed, held = bare(distribution)
    packages.install(one)
    assert tuple(installed) == PACKAGES[distribution.name]
    assert tuple(held) == UNITS[distribution.name]


@each
def test_a_compute_node_has_no_controller_s(bare, distribution):
    one, installed, held = bare(distribution)
    one.node = replace(one.node, roles=frozenset({Role.COMPUTE}))
    packages.install(one)
    central = distribution.packages_of("mariadbd", "memcached", "rabbitmq-server", "ovn-northd")
    assert not set(installed) & set(central)
    assert "haproxy.service" in held
    assert "memcached.service" not in held


@each
def test_packages_are_asked_for_and_installed_by_its_manager(machine, distribution):
    one = machine(
        {"rpm -q": "sudo installed 1.9-1", "dpkg-query": "sudo installed 1.9"}, f"distribution={distribution.name}"
    )
    assert one.versions(("sudo", "haproxy")) == {"sudo": "1.9-1" if distribution is RHEL_9 else "1.9", "haproxy": ""}
    one.packages("haproxy")
    (line,) = (command for command in one.commands if command.endswith(" haproxy") and " install " in command)
    assert ("dnf" in line) == (distribution is RHEL_9)
    assert "no-install-recommends" in line or "install_weak_deps=False" in line


@each
def test_the_engine_comes_with_its_client(bare, distribution):
    one, installed, held = bare(distribution)
    Docker(one.attributes).install(one)
    assert tuple(dict.fromkeys(installed)) == (*ENGINES[distribution.name], "lxcfs")
    assert held == ["lxcfs.service"]


@each
def test_without_docker_there_is_no_engine_no_client_and_no_lxcfs(bare, node, distribution):
    one, installed, held = bare(distribution, "docker.enable=false")
    for stage in node_stages(one.node):
        if stage.name in {"packages", "hypervisor-install"}:
            stage.apply(one)
    assert tuple(installed) == PACKAGES[distribution.name]
    assert not set(installed) & {*ENGINES[distribution.name], "lxcfs"}
    assert "lxcfs.service" not in held


def test_an_engine_without_its_client_gets_it(bare):
    one, installed, _ = bare(DEBIAN_13, "docker.package=docker-ce", "docker.lxcfs=false")
    Docker(one.attributes).install(one)
    assert installed == ["docker-ce", "docker-cli"]


@each
def test_lxcfs_may_end_as_its_version_does(distribution):
    service = lxcfs.service(distribution)
    assert service.end_statuses == LXCFS_MAY_END_WITH.get(distribution.name, (1,))
    assert ("\nSuccessExitStatus=1\n" in systemd.render(service)) == bool(service.end_statuses)
    assert service.packages == ("lxcfs",)


@each
def test_services_are_run_from_its_places_by_its_accounts_instead_of_its_units(settings, distribution):
    found = services(settings, distribution)
    rhel = distribution is RHEL_9
    assert found["mariadb"].command[0] == ("/usr/libexec/mariadbd" if rhel else "/usr/sbin/mariadbd")
    assert found["mariadb"].packages == (("mariadb-server",) if rhel else ("mariadb-server-core",))
    assert found["memcached"].user == ("memcached" if rhel else "memcache")
    assert found["epmd"].replaces == ("epmd.socket", "epmd.service")
    assert found["rabbitmq"].replaces == ("rabbitmq-server.service",)
    assert found["ovsdb"].replaces == (("openvswitch.service",) if rhel else DEBIANS_SWITCH)
    assert found["ovs-vswitchd"].packages == (("openvswitch",) if rhel else ("openvswitch-switch",))
    assert found["ovn-nb"].replaces[0] == ("ovn-northd.service" if rhel else "ovn-central.service")
    controller = ("ovn-controller.service",)
    assert found["ovn-controller"].replaces == (controller if rhel else ("ovn-host.service", *controller))
    assert server(replace(settings, distribution=distribution)).packages == (("dropbear" if rhel else "dropbear-bin"),)


@each
def test_every_program_that_a_command_calls_has_a_package(distribution):
    assert all(distribution.packages_of(program.name) for program in PROGRAMS)
    assert distribution.packages.keys() == DEBIAN_12.packages.keys()


@each
def test_environments_are_made_with_its_python(machine, distribution):
    one = machine({"test -x": {"success": False}}, f"distribution={distribution.name}")
    environments.ensure_environment(one, "/opt/x", "", title="")
    wanted = "/usr/bin/python3.12" if distribution is RHEL_9 else "/usr/bin/python3"
    assert any(f"--python {wanted} /opt/x" in command for command in one.commands)


def test_what_is_proven_of_each():
    assert not DEBIAN_12.proven
    assert all(one.proven for one in (DEBIAN_13, SID, UBUNTU_24_04, RHEL_9))
