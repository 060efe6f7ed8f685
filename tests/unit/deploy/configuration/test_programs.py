# SPDX-License-Identifier: Apache-2.0
import hashlib
from dataclasses import replace

from dockstack.deploy.configuration import extra_hosts, fork_server, privilege, programs
from dockstack.deploy.supervision.backends import supervisor, systemd
from dockstack.deploy.supervision.services import in_start_order


def everything(settings):
    return (
        *programs.infrastructure(settings),
        *programs.network_fabric(settings, settings.distribution),
        *programs.keystone(settings),
        *programs.placement(settings),
        *programs.glance(settings),
        *programs.nova_control(settings),
        *programs.neutron(settings),
        *programs.nova_compute(settings, ("docker",), ("/marker",)),
    )


def test_requirements_name_services_that_exist(settings):
    services = everything(settings)
    names = {service.name for service in services}
    assert len(names) == len(services)
    assert {required for service in services for required in service.requires} <= names


def test_the_database_starts_before_what_needs_it(settings):
    order = [service.name for service in in_start_order(everything(settings))]
    assert order.index("mariadb") < order.index("keystone")
    assert order.index("ovsdb") < order.index("ovs-vswitchd") < order.index("nova-compute")


def test_openstack_services_are_not_root(settings):
    for service in everything(settings):
        if "/opt/dockstack/openstack" in service.command[0]:
            assert service.user in {"keystone", "placement", "glance", "nova", "neutron"}


def test_no_secret_in_a_command_or_environment(settings):
    for service in everything(settings):
        assert "secret-" not in f"{service.command} {service.environment} {service.prepare}"


def test_compute_joins_the_hypervisors_group_and_watches_its_files(settings):
    (service,) = programs.nova_compute(settings, ("docker",), ("/marker",))
    assert "docker" in service.groups
    assert "/marker" in service.watch
    assert "/etc/nova/nova-db.conf" not in service.watch
    assert service.environment["OS_NOVA_DISABLE_EVENTLET_PATCHING"] == "true"


def test_every_configuration_file_of_a_service_decides_on_its_restart(settings):
    for service in everything(settings):
        files = [word for word in service.command if word.startswith("/etc/") and not word.endswith(".db")]
        assert set(files) <= set(service.watch)


def test_each_api_is_asked_whether_it_answers(settings):
    checks = {service.name: service.check for service in everything(settings)}
    assert checks["keystone"].target == "http://127.0.0.1:5000/"
    assert checks["neutron-api"].target == "http://127.0.0.1:9696/"


def test_the_conductor_is_the_script_that_ends_forgotten_builds(settings):
    (conductor,) = (service for service in programs.nova_control(settings) if service.name == "nova-conductor")
    script = "/opt/dockstack/libexec/nova_conductor.py"
    assert conductor.command[:2] == ("/opt/dockstack/openstack/bin/python", script)
    assert script in conductor.watch, "a newer script restarts it"


def forking_services(settings):
    return (
        *programs.keystone(settings),
        *programs.placement(settings),
        *programs.glance(settings),
        *programs.nova_control(settings),
        *programs.nova_compute(settings, ("docker",)),
        *programs.neutron(settings),
        *extra_hosts.compute_services(settings, "host2", ("docker",), (), None),
        *extra_hosts.agent_services(settings, "host2"),
    )


def test_python_services_are_forked_if_the_node_has_a_fork_server(settings):
    plain = replace(settings, agent_watch=("/opt/dockstack/libexec/patch",))
    forking = replace(plain, fork_server=True)
    server = programs.forks(forking)
    for before, after in zip(forking_services(plain), forking_services(forking), strict=True):
        assert after.command == before.command
        assert set(after.requires) - set(before.requires) == {fork_server.NAME}
        assert after.shim[:3] == (f"{settings.virtualenv}/bin/python", "-I", "-S")
        assert set(after.watch) >= {*before.watch, *fork_server.SCRIPTS, *server.watch} or before.inside
    (keystone,) = programs.keystone(forking)
    assert keystone.shim[-1] == f"{fork_server.DIRECTORY}/common.sock"
    for service in programs.cinder(forking):
        assert not service.shim
        assert fork_server.NAME not in service.requires


def test_a_forked_service_of_a_further_host_watches_what_is_installed(settings):
    """The shim stands outside of the host, and neither it nor the server has a copy there."""
    for service in forking_services(replace(settings, fork_server=True)):
        assert set(fork_server.SCRIPTS) <= set(service.watch)
        assert not [path for path in service.watch if path.endswith("_server.py") and "host2" in path]


def test_root_starts_a_forked_service_and_its_command_becomes_the_user(settings):
    """Nobody else may ask the fork server."""
    for service in forking_services(replace(settings, fork_server=True)):
        unit, program = systemd.render(service), supervisor.render(service)
        shim = " ".join(service.shim)
        assert "User=" not in unit
        assert "SupplementaryGroups" not in unit
        assert "user=root\n" in program
        host = "/usr/bin/nsenter --net=/run/netns/dockstack-host2 --mount=/run/dockstack/hosts/host2.mnt -- "
        words = f"{shim} {host if service.inside else ''}/usr/bin/setpriv --reuid={service.user} --regid={service.user}"
        assert f"ExecStart={words} --groups=" in unit
        assert f"command={words} --groups=" in program


def test_nobody_else_comes_near_the_fork_server(settings):
    service = programs.forks(replace(settings, fork_server=True))
    assert service.prepare[0] == ("install", "-d", "-o", "root", "-g", "root", "-m", "700", fork_server.DIRECTORY)
    assert service.user == "root"
    assert service.environment["HOME"] == fork_server.DIRECTORY


AS_BEFORE = {
    "nova.sudoers": "3e9722fcd48bcc13",
    "neutron.sudoers": "93e7618d7497f347",
    "cinder.sudoers": "3b6606f3a2ae10fc",
    "keystone.service": "3ba66a4e8cad1cae",
    "keystone.conf": "df723dbbbecfb6fc",
    "placement-api.service": "c202e3c9807f8299",
    "placement-api.conf": "331457ef4c9e1abe",
    "glance-api.service": "c4b8b4309b4e4e50",
    "glance-api.conf": "dc5d4bf9253a2e88",
    "nova-api.service": "70e07059802d6def",
    "nova-api.conf": "6142f2c327868d2d",
    "nova-metadata.service": "4278e9423bcc6209",
    "nova-metadata.conf": "083a1c64dc3ab71a",
    "nova-conductor.service": "00813ed759455dd5",
    "nova-conductor.conf": "033ee9aab978bd2a",
    "nova-scheduler.service": "655883a4e618e1bc",
    "nova-scheduler.conf": "31c6262c4d327621",
    "nova-serialproxy.service": "179948bf51ba62f1",
    "nova-serialproxy.conf": "033d1380c7daf800",
    "nova-novncproxy.service": "424c779eb81911b5",
    "nova-novncproxy.conf": "0570696b016f53c1",
    "nova-compute.service": "0acb45aabcdc3a81",
    "nova-compute.conf": "36a27fa49640a52a",
    "neutron-api.service": "2abedcaa50b457c7",
    "neutron-api.conf": "b3125acf02590a46",
    "neutron-ovn-maintenance-worker.service": "e101e61dff30e933",
    "neutron-ovn-maintenance-worker.conf": "8b5babd5dea68cca",
    "neutron-ovn-agent.service": "784d51513d403ed8",
    "neutron-ovn-agent.conf": "1aaa593f4e53a439",
    "host2-nova-compute.service": "cb68694e8db44a99",
    "host2-nova-compute.conf": "b427a8bce428c7e2",
    "host2-neutron-ovn-agent.service": "1568ecc0c17076f5",
    "host2-neutron-ovn-agent.conf": "ac14f3154907ab44",
}
"""Of services and rules as they were before there was a fork server, the beginnings of the files' SHA-256 sums.

Whoever changes one of them on purpose changes its sum here.
"""


def test_without_a_fork_server_no_service_and_no_rule_has_anything_of_it(settings):
    files = {f"{user}.sudoers": privilege.sudoers(settings, user) for user in ("nova", "neutron", "cinder")}
    for service in forking_services(settings):
        files[f"{service.name}.service"] = systemd.render(service)
        files[f"{service.name}.conf"] = supervisor.render(service)
    sums = {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in files.items()}
    assert sums == AS_BEFORE


def test_the_conductor_of_each_release_has_threads_of_its_own(settings):
    """With Nova 33, which would patch itself once our script has loaded it, it ends at once."""
    (conductor,) = (one for one in programs.nova_control(settings) if one.name == "nova-conductor")
    assert conductor.environment["OS_NOVA_DISABLE_EVENTLET_PATCHING"] == "true"
