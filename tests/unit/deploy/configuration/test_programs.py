# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from dockstack.deploy.configuration import fork_server, programs
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


def test_python_services_and_privileged_helpers_are_forked_if_the_node_has_a_fork_server(settings):
    plain, forking = settings, replace(settings, fork_server=True)
    for before, after in zip(programs.nova_control(plain), programs.nova_control(forking), strict=True):
        shim = fork_server.shim(forking, "nova")
        at = after.command.index(shim[0])
        assert (*after.command[:at], *after.command[at + len(shim) :]) == before.command
        assert after.command[at : at + len(shim)] == shim
        assert set(after.requires) - set(before.requires) == {fork_server.NAME}
        assert set(after.watch) > set(before.watch)
    (keystone,) = programs.keystone(forking)
    assert f"{fork_server.DIRECTORY}/common.sock" in keystone.command
    for service in programs.cinder(forking):
        assert fork_server.NAME not in service.requires
