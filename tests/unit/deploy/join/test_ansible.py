# SPDX-License-Identifier: Apache-2.0
"""Hosts of Ansible inventories, from what `ansible-inventory --list` prints."""

from __future__ import annotations

import json

import pytest

from dockstack.deploy.join import ansible
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def listing(variables=None, **groups):
    made = {"_meta": {"hostvars": variables or {}}, **groups}
    return {"docker_compute": {"hosts": ["one"]}, **made}


def one(**variables):
    return ansible.nodes(listing({"one": variables}), "docker_compute")["one"]


SSH = {"connector": "@ssh", "roles": ["compute"]}


def test_groups_are_walked_and_hosts_without_variables_are_found():
    listed = listing(
        {"a": {"ansible_host": "192.0.2.1"}},
        docker_compute={"children": ["rack1", "rack2"], "hosts": ["c"]},
        rack1={"hosts": ["a", "b"]},
        rack2={"hosts": ["b"], "children": ["docker_compute"]},  # in a circle
        other={"hosts": ["d"]},
    )
    found = ansible.nodes(listed, "docker_compute")
    assert found == {"c": SSH, "a": {**SSH, "address": "192.0.2.1"}, "b": SSH}


def test_what_ansible_knows_of_a_host_is_taken():
    found = one(
        ansible_host="192.0.2.1",
        ansible_port="2222",
        ansible_user="admin",
        ansible_ssh_private_key_file="~/.ssh/nodes",
        ansible_become="true",
        ansible_ssh_common_args="-o ProxyJump=me@bastion:22 -o StrictHostKeyChecking=no -oUserKnownHostsFile=/k",
    )
    assert found == {
        **SSH,
        "address": "192.0.2.1",
        "port": 2222,
        "user": "admin",
        "key": "~/.ssh/nodes",
        "jump": "me@bastion:22",
        "known_hosts": "/k",
    }


@pytest.mark.parametrize("arguments", ["-J b", "-Jb", "-o ProxyJump=b", "-oProxyJump=b", "-o proxyjump=b"])
def test_a_jump_host_may_be_written_in_many_ways(arguments):
    assert one(ansible_ssh_common_args=arguments)["jump"] == "b"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ansible_connection": "local"}, "is reached by local"),
        ({"ansible_host": {"__ansible_vault": "..."}}, "ansible_host of one is encrypted"),
        ({"ansible_user": "{{ admin }}"}, "made of other variables"),
        ({"ansible_ssh_common_args": "-o ProxyCommand='ssh -W %h:%p b'"}, "has '-o'"),
        ({"ansible_ssh_common_args": "-F /x"}, "has '-F'"),
        ({"ansible_ssh_common_args": "-J"}, "has '-J'"),
    ],
)
def test_what_we_have_not_is_refused_by_name(variables, words):
    with pytest.raises(DockstackError) as refused:
        one(**variables)
    assert words in refused.value.brief


def test_a_group_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DockstackError, match="no group 'compute'") as refused:
        ansible.nodes(listing(), "compute")
    assert refused.value.resolution == "--group takes one of these: docker_compute."


class TestFiles:
    def test_a_saved_listing_needs_no_ansible(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        (tmp_path / "inventory.json").write_text(json.dumps(listing()))
        assert ansible.read(str(tmp_path / "inventory.json"), "docker_compute") == {"one": SSH}

    def test_any_other_is_read_by_ansible(self, tmp_path, monkeypatch):
        program = tmp_path / "ansible-inventory"
        program.write_text(f"#!/bin/sh\n[ \"$*\" = '-i {tmp_path} --list' ] && echo '{json.dumps(listing())}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert ansible.read(str(tmp_path), "docker_compute") == {"one": SSH}

    def test_without_ansible_it_is_said_how_to_list_it_elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        (tmp_path / "hosts").write_text("[docker_compute]\none\n")
        with pytest.raises(DockstackError, match="is not here") as refused:
            ansible.read(str(tmp_path / "hosts"), "docker_compute")
        assert "--list > inventory.json" in refused.value.resolution

    def test_what_ansible_says_of_a_broken_one_is_told(self, tmp_path, monkeypatch):
        program = tmp_path / "ansible-inventory"
        program.write_text("#!/bin/sh\necho 'line 3 is broken' >&2; exit 4\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(DockstackError, match="cannot read") as refused:
            ansible.read(str(tmp_path), "docker_compute")
        assert "line 3 is broken" in refused.value.details
