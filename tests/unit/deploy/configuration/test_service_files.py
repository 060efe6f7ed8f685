# SPDX-License-Identifier: Apache-2.0
import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from dockstack.deploy.configuration import (
    barbican,
    cinder,
    desired_state,
    glance,
    keystone,
    mariadb,
    neutron,
    nova,
    placement,
    programs,
    rabbitmq,
    registry,
)
from dockstack.deploy.configuration.apis import uwsgi_files
from dockstack.deploy.configuration.clients import clouds_yaml, openrc
from dockstack.deploy.configuration.haproxy import tls_proxy_cfg
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.privilege import helper_command, helper_sections, sudoers
from dockstack.deploy.configuration.settings import DATABASES, SECRET_NAMES, ImageQuotas
from dockstack.deploy.paths import AUTHORITY


def test_every_secret_that_a_builder_asks_for_is_generated(settings):
    asked = set()

    class Watched(dict):
        def __getitem__(self, name):
            asked.add(name)
            return super().__getitem__(name)

    watched = replace(settings, secrets=Watched(settings.secrets))
    for build in (
        keystone.keystone_conf,
        glance.glance_api_conf,
        placement.placement_conf,
        nova.nova_conf,
        nova.nova_db_conf,
        neutron.neutron_conf,
        neutron.ml2_conf,
        neutron.ovn_agent_conf,
        mariadb.bootstrap_sql,
        rabbitmq.definitions_json,
        desired_state.identity,
        desired_state.registry,
        desired_state.volumes,
        desired_state.people,
        desired_state.key_manager,
        barbican.barbican_conf,
        cinder.cinder_conf,
        registry.registry_conf,
        lambda settings: mariadb.account_sql(settings, registry.ACCOUNT, (registry.ACCOUNT,)),
        clouds_yaml,
        openrc,
    ):
        build(watched)
    assert asked | {"rabbitmq_cookie"} == set(SECRET_NAMES)


def test_compute_sees_no_database(settings):
    text = render_ini(nova.nova_conf(settings))
    assert "mysql" not in text
    assert "[database]" not in text
    assert set(nova.nova_db_conf(settings)) == {"api_database", "database"}


def test_the_hypervisor_adds_its_section(settings):
    conf = nova.nova_conf(settings)
    assert conf["DEFAULT"]["compute_driver"] == "docker.DockerDriver"
    assert conf["docker"] == {"host_url": "unix:///run/docker.sock", "skip_allocation_lookup": "true"}


def test_container_formats_are_appended_never_replaced(settings):
    formats = glance.glance_api_conf(settings)["image_format"]["container_formats"].split(",")
    assert formats[: len(glance.DEFAULT_CONTAINER_FORMATS)] == list(glance.DEFAULT_CONTAINER_FORMATS)
    assert formats[-1] == "dockerref"
    assert len(formats) == len(set(formats))


def test_glance_asks_the_key_manager_for_certificates_of_signed_images_where_there_is_one(settings):
    assert "key_manager" not in glance.glance_api_conf(settings)
    conf = glance.glance_api_conf(replace(settings, key_manager=True))
    assert conf["key_manager"] == {"backend": "barbican"}
    assert conf["barbican_service_user"]["username"] == "glance"


def test_glance_asks_keystone_for_limits_as_itself(settings):
    conf = glance.glance_api_conf(replace(settings, region="North"))
    assert conf["DEFAULT"]["use_keystone_limits"] == "true"
    limits = conf["oslo_limit"]
    assert (limits["username"], limits["password"]) == ("glance", "secret-glance_password")
    assert (limits["region_name"], limits["endpoint_region_name"]) == ("North", "North")
    assert limits["endpoint_service_type"] in {
        service["type"] for service in desired_state.identity(settings)["services"]
    }


def test_quotas_of_images_are_counted_as_glance_counts(settings):
    quotas = ImageQuotas(size_gb=3, staged_gb=-1, count=7, uploads=-1)
    assert desired_state.limits(replace(settings, image_quotas=quotas))["limits"] == {
        "glance": {
            "image_size_total": 3072,
            "image_stage_total": 2**31 - 1,
            "image_count_total": 7,
            "image_count_uploading": 2**31 - 1,
        }
    }


def test_limits_are_of_services_in_the_catalogue(settings):
    names = {service["name"] for service in desired_state.identity(settings)["services"]}
    assert desired_state.limits(settings)["limits"].keys() <= names


def test_debug_is_off_and_notifications_go_nowhere(settings):
    for conf in (
        keystone.keystone_conf(settings),
        glance.glance_api_conf(settings),
        nova.nova_conf(settings),
        neutron.neutron_conf(settings),
    ):
        assert conf["DEFAULT"]["debug"] == "false"
        assert conf["oslo_messaging_notifications"] == {"driver": "noop"}


def test_databases_are_reached_through_the_socket_alone(settings):
    assert settings.database_url("nova", "nova_cell0") == (
        "mysql+pymysql://nova:secret-nova_database_password@localhost/nova_cell0"
        "?unix_socket=/run/dockstack/mariadb/mariadb.sock&charset=utf8mb4"
    )
    assert mariadb.mariadb_cnf(settings)["mariadbd"]["skip_networking"] == "1"


def test_bootstrap_sql_can_run_again(settings):
    lines = mariadb.bootstrap_sql(settings).splitlines()
    assert all(
        line.startswith(("CREATE USER IF NOT", "ALTER USER", "CREATE DATABASE IF NOT", "GRANT")) for line in lines
    )
    assert sum(line.startswith("CREATE DATABASE") for line in lines) == sum(map(len, DATABASES.values()))


def test_the_message_bus_password_is_stored_as_a_stable_hash():
    # salt: the first four bytes; the rest is sha256(salt + password)
    first, again, other = (rabbitmq.password_hash(text) for text in ("one", "one", "two"))
    assert first == again
    assert first != other


def test_no_message_bus_secret_in_the_environment(settings):
    assert "secret" not in str(rabbitmq.environment(settings))


def test_apis_listen_where_the_settings_say(settings):
    files = uwsgi_files(replace(settings, bind_address="192.0.2.7"))
    assert {ini["uwsgi"]["http-socket"] for ini in files.values()} == {
        f"192.0.2.7:{port}" for port in (5000, 8774, 8775, 8778, 9292, 9696)
    }
    assert all(ini["uwsgi"]["processes"] == "1" for ini in files.values())


def test_an_api_that_is_asked_to_end_waits_for_no_thread(settings):
    assert all(ini["uwsgi"]["skip-atexit-teardown"] == "true" for ini in uwsgi_files(settings).values())


def test_a_new_host_is_not_found_by_chance(settings):
    assert nova.nova_conf(settings)["DEFAULT"]["periodic_fuzzy_delay"] == "0"


def test_metadata_needs_no_further_processes(settings):
    conf = neutron.ovn_agent_conf(settings)
    assert conf["DEFAULT"]["metadata_workers"] == "0"


def test_metadata_is_served_by_neutron_s_extension_unless_the_hypervisor_brings_another(settings):
    assert neutron.ovn_agent_conf(settings)["agent"]["extensions"] == "metadata"
    other = replace(settings, metadata_extension="other", agent_watch=("its-code",))
    assert neutron.ovn_agent_conf(other)["agent"]["extensions"] == "other"
    (agent,) = (each for each in programs.neutron(other) if each.name == "neutron-ovn-agent")
    assert "its-code" in agent.watch


@pytest.mark.parametrize("user", ["nova", "neutron"])
def test_root_is_reached_through_named_contexts_only(settings, user):
    rule = sudoers(settings, user).splitlines()[-1]
    assert rule.startswith(f"{user} ALL=(root) NOPASSWD: /opt/dockstack/openstack/bin/privsep-helper ^--config-file ")
    assert rule.endswith("$")
    assert ".*" not in rule
    assert {frozenset(options) for options in helper_sections(settings, user).values()} == {
        frozenset({"helper_command"})
    }


def test_each_start_of_neutrons_api_is_a_new_one(settings):
    neutron = uwsgi_files(settings)["neutron-api"]["uwsgi"]
    assert neutron["exec-pre-app"] == "rm -f /tmp/neutron_start_time*"
    assert "exec-pre-app" not in uwsgi_files(settings)["nova-api"]["uwsgi"]


def test_glance_reads_from_the_registry_alone_and_only_where_there_is_one(settings):
    without = glance.glance_api_conf(settings)
    assert without["DEFAULT"]["enabled_backends"] == "files:file"
    assert "import_filtering_opts" not in without
    wanted = glance.glance_api_conf(replace(settings, http_images=True))
    assert wanted["DEFAULT"]["enabled_backends"] == "files:file,registry:http"
    assert wanted["import_filtering_opts"] == {
        "allowed_hosts": "[127.0.0.1]",
        "allowed_ports": "[5005]",
        "allowed_schemes": "[http]",
    }
    assert wanted.keys() - without.keys() == {"import_filtering_opts"}


def test_the_registry_is_in_the_clear_on_the_loopback_only(settings):
    behind_tls = replace(settings, registry=True, tls=True, listen_address="192.0.2.1", controller_address="192.0.2.1")
    conf = registry.registry_conf(behind_tls)["registry"]
    assert (conf["address"], conf["archive_url"]) == ("127.0.0.1", "http://127.0.0.1:5005")
    open_conf = registry.registry_conf(replace(behind_tls, tls=False, bind_address="192.0.2.1"))["registry"]
    assert (open_conf["address"], open_conf["archive_url"]) == ("192.0.2.1", "http://127.0.0.1:5005")
    assert (conf["url"], conf["authority"]) == ("https://192.0.2.1:5005", behind_tls.authority)
    assert "    bind 192.0.2.1:5005 ssl" in tls_proxy_cfg(behind_tls)
    assert ":5005" not in tls_proxy_cfg(replace(behind_tls, registry=False))


def test_the_clouds_own_hosts_pull_from_its_registry(settings):
    def docker(**changes):
        ours = replace(settings, hypervisor_options=(("docker", (("timeout", "5"),)),), **changes)
        told = nova.nova_conf(ours)["docker"]
        return {name: value for name, value in told.items() if name != "skip_allocation_lookup"}

    assert docker() == {"timeout": "5"}
    assert docker(registry=True) == {"timeout": "5", "cloud_registry": "http://127.0.0.1:5005"}
    assert docker(registry=True, tls=True, controller_address="192.0.2.1") == {
        "timeout": "5",
        "cloud_registry": "192.0.2.1:5005",
        "registry_ca_file": AUTHORITY,
    }


def test_no_password_of_the_registry_is_in_its_command_or_environment(settings):
    service = registry.service(settings)
    assert "secret-" not in repr((service.command, service.environment))
    assert service.user == "dockstack-registry"


def test_servers_whose_subnets_name_no_name_servers_get_those_that_dhcp_offers(settings):
    def offered(*servers):
        made = replace(settings, networks=replace(settings.networks, dns_servers=servers))
        return neutron.ml2_conf(made)["ovn"]["dns_servers"], nova.nova_conf(made)["docker"].get("dns_servers", "")

    assert offered("192.0.2.53", "192.0.2.54") == ("192.0.2.53,192.0.2.54",) * 2
    assert offered() == ("", "")


@pytest.mark.parametrize("user", ["nova", "neutron", "cinder"])
def test_sudo_allows_the_helper_that_the_configuration_names_and_no_other(settings, user):
    program, _, pattern = sudoers(settings, user).splitlines()[-1].partition("NOPASSWD: ")[2].partition(" ")
    context = {"nova": "dockstack.compute.privileged.context", "neutron": "neutron.privileged.default"}.get(
        user, "os_brick.privileged.default"
    )
    rest = f"--privsep_context {context} --privsep_sock_path /tmp/a/privsep.sock"
    sudo, option, *command = [*helper_command(settings, user).split(), *rest.split()]
    assert (sudo, option, command[0]) == ("sudo", "-n", program)
    assert re.fullmatch(pattern, " ".join(command[1:]))


SUDO_AS = "nobody"
"""An account that every machine has, instead of the service's."""


@pytest.fixture
def asks_sudo(settings, tmp_path):
    """Whether sudo itself, with the rules of a user and no others, would run a command."""
    if os.geteuid() != 0 or shutil.which("visudo") is None:
        pytest.skip("only root asks sudo what others may do")
    here = replace(settings, virtualenv=str(tmp_path))
    program = tmp_path / "bin/privsep-helper"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)

    def ask(user, *arguments):
        rules = tmp_path / "sudoers"
        text = sudoers(here, user, rootwrap=False)
        rules.write_text(text.replace(f"\n{user} ", f"\n{SUDO_AS} ").replace(f":{user} ", f":{SUDO_AS} "))
        rules.chmod(0o440)
        subprocess.run(["visudo", "-cqf", rules], check=True)
        mount = 'mount --bind "$1" /etc/sudoers && shift && exec sudo -n -l -U "$@"'
        words = ["unshare", "--mount", "sh", "-c", mount, "sh", rules, SUDO_AS, program, *arguments]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    return ask


def helper_arguments(user, **changed):
    context = {"nova": "nova.privsep.sys_admin_pctxt", "neutron": "neutron.privileged.default"}[user]
    options = {
        "config-file": f"/etc/{user}/{user}.conf",
        "privsep_context": context,
        "privsep_sock_path": "/tmp/a/b.sock",
    }
    return [word for name, value in {**options, **changed}.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize("user", ["nova", "neutron"])
def test_sudo_lets_a_service_have_its_helper_and_nothing_before_or_within_it(asks_sudo, user):
    """Sudo joins arguments by spaces before it compares them."""
    right = helper_arguments(user)
    assert asks_sudo(user, *right)
    assert not asks_sudo(user, "-m", *right)
    assert not asks_sudo(user, *right, "--debug")
    assert not asks_sudo(user, *helper_arguments(user, privsep_sock_path="/tmp/a b"))
    assert not asks_sudo(user, *helper_arguments(user, privsep_context="os.system"))
    assert not asks_sudo(user, "x/y z", *right)


@pytest.mark.parametrize("user", ["nova", "neutron", "cinder"])
def test_a_fork_server_lets_nobody_have_more_of_sudo(settings, user):
    assert sudoers(replace(settings, fork_server=True), user) == sudoers(settings, user)


def test_neutron_is_told_its_address_where_another_process_has_imported_for_it(settings):
    forking = replace(settings, fork_server=True, tunnel_address="192.0.2.7")
    assert neutron.neutron_conf(forking)["DEFAULT"]["my_ip"] == "192.0.2.7"
    assert "my_ip" not in neutron.neutron_conf(settings)["DEFAULT"]
