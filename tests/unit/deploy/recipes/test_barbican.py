# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json

import pytest

from dockstack.deploy.configuration import desired_state, haproxy, nova, programs
from dockstack.deploy.configuration.apis import uwsgi_files
from dockstack.deploy.configuration.barbican import POLICY, barbican_conf, policy
from dockstack.deploy.configuration.cinder import cinder_conf
from dockstack.deploy.recipes import barbican as recipe
from dockstack.deploy.recipes import packages
from dockstack.deploy.wanted.inventory import load, remember
from wanted_cloud import settings, stages

pytestmark = pytest.mark.unit

WANTED = "key_manager.enable=true"
STAGES = {"barbican-files", "barbican-database", "barbican-account", "barbican"}


def test_a_cloud_without_keys_has_nothing_of_it():
    found = stages()
    assert found.keys() & STAGES == {"barbican"}
    assert found["barbican"].apply is recipe.stop
    plain = settings("volumes.enable=true")
    assert "barbican-api" not in uwsgi_files(plain)
    assert "barbican" not in haproxy.api_ports(plain)
    assert not {"barbican", "key_manager"} & (nova.nova_conf(plain).keys() | cinder_conf(plain).keys())
    assert [each["name"] for each in desired_state.volume_types(plain)["volume_types"]] == ["file", "file-multiattach"]


def test_it_is_remembered_until_somebody_says_no(tmp_path):
    saved = tmp_path / "saved-options.yaml"

    def chosen(*assignments):
        found = load(None, assignments, saved_options=saved).local.attributes
        remember(saved, recipe.to_remember(found))
        return found.flag("key_manager.enable")

    assert [chosen(WANTED), chosen(), chosen("key_manager.enable=false"), chosen()] == [True, True, False, False]


def test_it_starts_when_what_it_asks_is_there():
    found = stages(WANTED)
    assert found.keys() >= STAGES
    assert {"barbican-database", "barbican-account", "token-cache"} <= set(found["barbican"].after)
    assert "database" in found["barbican-database"].after
    (service,) = programs.barbican(settings(WANTED))
    assert service.user == "barbican"
    assert "rabbitmq" not in service.requires


def test_its_key_is_the_clouds_own():
    ini = barbican_conf(settings(WANTED))
    key = ini["simple_crypto_plugin"]["kek"]
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert barbican_conf(settings(WANTED))["simple_crypto_plugin"]["kek"] == key, "what it encrypted would be lost"
    assert ini["keystone_authtoken"]["service_token_roles_required"] == "true"
    assert ini["oslo_policy"]["policy_file"] == POLICY


def test_services_read_keys_and_do_nothing_else_to_them():
    rules = json.loads(policy())
    assert rules.keys() == {"secret:decrypt", "secret:get"}
    assert all(rule.endswith(") or role:service") for rule in rules.values())


@pytest.mark.parametrize("user", ["nova", "cinder"])
def test_who_asks_for_keys_sends_its_own_token_along(user):
    wanted = settings(WANTED, "volumes.enable=true", "tls.enable=true", "listen_address=192.0.2.1")
    ini = {"nova": nova.nova_conf, "cinder": cinder_conf}[user](wanted)
    assert ini["key_manager"]["backend"] == "barbican"
    assert ini["barbican"]["send_service_user_token"] == "true"
    assert ini["barbican"]["verify_ssl_path"] == wanted.authority
    assert ini["barbican_service_user"]["username"] == user


def test_its_account_and_address_are_in_the_catalogue():
    wanted = settings(WANTED, "ports.barbican=9312")
    desired = desired_state.key_manager(wanted)
    assert desired["accounts"] == {"barbican": "secret-barbican_password"}
    assert desired["services"] == [{"name": "barbican", "type": "key-manager", "url": "http://127.0.0.1:9312"}]
    assert uwsgi_files(wanted)["barbican-api"]["uwsgi"]["http-socket"] == "127.0.0.1:9312"
    assert haproxy.api_ports(wanted)["barbican"] == 9312


def test_there_is_a_type_of_encrypted_volumes():
    types = desired_state.volume_types(settings(WANTED, "volumes.enable=true"))["volume_types"]
    (encrypted,) = (each for each in types if "encryption" in each)
    assert encrypted["name"] == "file-encrypted"
    assert encrypted["encryption"]["control_location"] == "front-end"
    assert encrypted["encryption"]["provider"] == "luks"


def test_hosts_get_what_decrypts():
    def wanted(*assignments):
        return packages.wanted(load(None, assignments).local)

    assert set(packages.DECRYPTION) <= set(wanted(WANTED, "volumes.enable=true"))
    assert not set(packages.DECRYPTION) & set(wanted("volumes.enable=true"))
