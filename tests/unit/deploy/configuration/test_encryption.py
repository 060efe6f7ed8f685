# SPDX-License-Identifier: Apache-2.0
"""A cloud whose controller others come to: over TLS, in clear, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from dockstack.deploy.configuration import (
    cinder,
    clients,
    desired_state,
    glance,
    haproxy,
    keystone,
    neutron,
    nova,
    openvswitch,
    placement,
    programs,
)
from dockstack.deploy.configuration.apis import uwsgi_files
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.supervision.services import in_start_order

pytestmark = pytest.mark.unit
AUTHORITY = "/etc/dockstack/tls/authority.pem"
CONFIGURATIONS = (
    keystone.keystone_conf,
    glance.glance_api_conf,
    placement.placement_conf,
    nova.nova_conf,
    neutron.neutron_conf,
    neutron.ovn_agent_conf,
    cinder.cinder_conf,
)


@pytest.fixture
def encrypted(settings):
    return replace(settings, listen_address="192.0.2.1", controller_address="cloud.example.org", tls=True)


def by_name(services):
    return {service.name: service for service in services}


def everything(settings):
    return (
        *programs.infrastructure(settings),
        *programs.network_fabric(settings, settings.distribution),
        *programs.keystone(settings),
        *programs.placement(settings),
        *programs.glance(settings),
        *programs.nova_control(settings),
        *programs.neutron(settings),
        *programs.nova_compute(settings),
    )


def test_no_account_is_shown_to_an_address_in_clear(encrypted):
    for build in CONFIGURATIONS:
        conf = build(encrypted)
        assert "http://" not in render_ini(conf), build
        assert "ws://" not in render_ini(conf), build
        for section, options in conf.items():
            if "password" in options:
                assert options["cafile"] == AUTHORITY, section
    assert "http://" not in str(desired_state.identity(encrypted))


def test_the_message_bus_is_spoken_to_over_tls_by_all(encrypted):
    for build in (nova.nova_conf, neutron.neutron_conf, glance.glance_api_conf):
        options = build(encrypted)["oslo_messaging_rabbit"]
        assert (options["ssl"], options["ssl_ca_file"]) == ("true", AUTHORITY)


def test_metadata_and_consoles_are_encrypted(encrypted):
    agent = neutron.ovn_agent_conf(encrypted)["DEFAULT"]
    assert (agent["nova_metadata_protocol"], agent["auth_ca_cert"]) == ("https", AUTHORITY)
    conf = nova.nova_conf(encrypted)
    assert conf["serial_console"]["base_url"] == "wss://cloud.example.org:6083/"
    assert conf["vnc"]["novncproxy_base_url"] == "https://cloud.example.org:6080/vnc.html"


def test_people_get_the_authority_with_their_credentials(encrypted):
    assert f"export OS_CACERT='{AUTHORITY}'" in clients.openrc(encrypted)
    for cloud in yaml.safe_load(clients.clouds_yaml(encrypted))["clouds"].values():
        assert cloud["cacert"] == AUTHORITY
        assert cloud["auth"]["auth_url"] == "https://cloud.example.org:5000/v3"


def test_only_the_proxy_listens_for_others_and_only_over_tls(encrypted):
    lines = [line.split() for line in haproxy.tls_proxy_cfg(encrypted).splitlines()]
    binds = {words[1]: words[2:] for words in lines if words[0] == "bind"}
    ports = (5000, 8778, 9292, 8774, 8775, 9696, 5672, 6083, 6080)
    assert set(binds) == {f"192.0.2.1:{port}" for port in ports}
    assert all(words == ["ssl", "crt", "/etc/dockstack/tls/apis.pem"] for words in binds.values())
    assert {words[2] for words in lines if words[0] == "server"} == {f"127.0.0.1:{port}" for port in ports}
    for ini in uwsgi_files(encrypted).values():
        assert ini["uwsgi"]["http-socket"].startswith("127.0.0.1:")


def test_openstack_starts_after_the_proxy_through_which_it_speaks(encrypted):
    proxy = programs.tls_proxy(encrypted)
    order = [service.name for service in in_start_order((*everything(encrypted), proxy))]
    for service in everything(encrypted):
        if "/opt/dockstack/openstack" in str(service.command):
            assert order.index(proxy.name) < order.index(service.name)


def test_a_new_certificate_restarts_the_proxy_alone(encrypted):
    assert "/etc/dockstack/tls/apis.pem" in programs.tls_proxy(encrypted).watch
    assert not [service.name for service in everything(encrypted) if "/tls/" in str(service.watch)]


def test_ovns_databases_let_in_whoever_has_a_certificate_of_the_clouds_own_authority(encrypted):
    services = by_name(programs.network_fabric(encrypted, encrypted.distribution))
    for name, port in (("ovn-nb", 6641), ("ovn-sb", 6642)):
        command = services[name].command
        assert f"--remote=pssl:{port}:192.0.2.1" in command
        assert "--ca-cert=/etc/dockstack/tls/ovn-authority.pem" in command
        assert not [word for word in command if "ptcp:" in word]


def test_in_clear_where_that_is_wanted(settings):
    open_to_all = replace(settings, bind_address="0.0.0.0", listen_address="0.0.0.0")
    assert openvswitch.listener_arguments(open_to_all, "sb") == ("--remote=ptcp:6642:0.0.0.0",)


def test_on_the_loopback_ovn_has_sockets_only_and_nothing_speaks_of_tls(settings):
    assert openvswitch.listener_arguments(settings, "nb") == ()
    texts = [render_ini(build(settings)) for build in CONFIGURATIONS]
    texts += [clients.openrc(settings), clients.clouds_yaml(settings), str(desired_state.administrator(settings))]
    for text in (*texts, str(everything(settings))):
        assert not [word for word in ("tls", "ssl", "https:", "cafile", "cacert") if word in text]
