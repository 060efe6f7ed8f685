# SPDX-License-Identifier: Apache-2.0
"""The guide to a node by hand says what `node add` writes: an option that is renamed there is renamed in it, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dockstack.deploy.configuration import compute_node, oslo_file, privilege
from dockstack.deploy.configuration.settings import Settings
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument

pytestmark = pytest.mark.unit
GUIDE = (Path(__file__).parents[4] / "docs/nodes-by-hand.md").read_text()
SETTINGS = Settings(secrets={}, hostname="node7", metadata_extension="dockstack_metadata")
# What a here-document of the guide becomes. The driver's own section is what `hypervisor settings` prints.
FILES = dict(re.findall(r"/dev/stdin (/etc/\S+)[^\n]*\n(.*?)\nEND\n", GUIDE, flags=re.DOTALL))
FILES |= {compute_node.NOVA_CONF: re.findall(r"\| install [^\n]*nova\.conf\n(.*?)\nEND\n", GUIDE, flags=re.DOTALL)[0]}
# Whose values are the guide's own: how it calls the environment, and how it speaks to the switch.
OWN = {"ovsdb_connection", "helper_command", "root_helper"}
# What is said of in its text, as a cloud may be without, or is a choice.
SAID = {"cinder", "barbican", "barbican_service_user", "docker"}
CHOICES = {"debug", "log_options", "force_config_drive", "periodic_fuzzy_delay", "executor_thread_pool_size"} | {
    *(
        "update_resources_interval",
        "max_concurrent_builds",
        "allow_resize_to_same_host",
        "compute_driver",
        "server_listen",
    ),
    *(f"initial_{what}_allocation_ratio" for what in ("cpu", "ram", "disk")),
}


@pytest.fixture(scope="module")
def written():
    """The files of `node add`, of a cloud without TLS, Cinder or consoles."""
    accounts = {f"accounts.{name}.username": name for name in ("nova", "placement", "neutron")}
    known = {"messaging.transport_url": "rabbit://a:b@192.0.2.11/", "metadata.host": "192.0.2.11", **accounts}
    cloud = CloudDocument([SourceValues("test", known)])
    return {path: file.content for path, file in compute_node.files(cloud, SETTINGS).items()}


def options(text):
    ini = oslo_file.parse(text, "the guide")
    return {(section, option): value for section, values in ini.items() for option, value in values.items()}


@pytest.mark.parametrize("path", [compute_node.NOVA_CONF, compute_node.NEUTRON_CONF, compute_node.AGENT_CONF])
def test_its_files_have_the_options_that_node_add_writes(written, path):
    ours, theirs = options(FILES[path]), options(written[path])
    left_out = {(section, option) for section, option in theirs if section in SAID or option in CHOICES}
    messaging = {key for key in theirs if key[0] == "oslo_messaging_rabbit"}  # as the cloud has it
    assert {*theirs} - left_out - messaging - {*ours} == set(), "it lacks them"
    assert {*ours} - {*theirs} == set(), "there is no such option"
    differ = {
        key: (value, theirs[key])
        for key, value in ours.items()
        if "$" not in value and key[1] not in OWN and value != theirs[key]
    }
    assert differ == {}


@pytest.mark.parametrize("user", ["nova", "neutron"])
def test_its_rules_of_sudo_let_in_what_node_adds_do(user):
    path = {"nova": "/etc/sudoers.d/nova-compute", "neutron": "/etc/sudoers.d/neutron-agent"}[user]
    rules = FILES[path].replace("$V", SETTINGS.virtualenv)
    assert rules.splitlines() == privilege.sudoers(SETTINGS, user).splitlines()[1:]


def test_rootwrap_lets_through_what_node_adds_does(written):
    assert options(FILES[privilege.ROOTWRAP_CONF]) == options(written[privilege.ROOTWRAP_CONF])
    filters = written[f"{privilege.ROOTWRAP_FILTERS}/dockstack.filters"]
    assert options(FILES[f"{privilege.ROOTWRAP_FILTERS}/metadata.filters"]) == options(filters)
