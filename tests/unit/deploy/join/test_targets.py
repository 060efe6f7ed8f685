# SPDX-License-Identifier: Apache-2.0
"""Which nodes are meant."""

from __future__ import annotations

import pytest

from dockstack.deploy.join import targets
from dockstack.deploy.join.journal import Entry
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
FILE = """\
roles:
  compute: {docker.lxcfs: false}
nodes:
  here: {roles: [controller]}
  rack1-a: {connector: '@ssh', address: 192.0.2.1, roles: [compute]}
  rack2-a: {connector: '@ssh', roles: [compute]}
  gateway: {connector: '@ssh', roles: [network]}
"""


@pytest.fixture
def meant(tmp_path):
    (tmp_path / "cloud.yaml").write_text(FILE)

    def choose(*hosts, limits=(), **login):
        further = targets.described(hosts, login)
        return targets.chosen(inventory.load(tmp_path / "cloud.yaml", further=further), further, limits)

    return choose


def names(nodes):
    return [node.name for node in nodes]


def test_without_names_all_compute_nodes_over_ssh_are_meant(meant):
    assert names(meant()) == ["rack1-a", "rack2-a"]
    assert names(meant(limits=("rack1-*", "other"))) == ["rack1-a"]


def test_a_host_of_the_command_line_is_a_compute_node_with_the_roles_attributes(meant):
    (node,) = meant("admin@192.0.2.9:2222", key="/k", jump="b", user="root", known_hosts=None)
    assert (node.name, node.user, node.port, node.key, node.jump) == ("192.0.2.9", "admin", 2222, "/k", "b")
    assert node.known_hosts is None
    assert not node.attributes.flag("docker.lxcfs")


def test_a_name_of_the_environment_file_is_that_node(meant):
    (node,) = meant("rack1-a", user="admin")
    assert (node.address, node.user) == ("192.0.2.1", "root")


def test_an_ipv6_address_stands_in_brackets(meant):
    (node,) = meant("[2001:db8::1]:22")
    assert node.name == "2001:db8::1"


@pytest.mark.parametrize(
    ("hosts", "limits", "words"),
    [
        (("a b",), (), "is no host"),
        (("host:ssh",), (), "is no host"),
        ((), ("rack9-*",), "there are: rack1-a, rack2-a"),
        (("here",), (), "not reached over SSH"),
    ],
)
def test_what_cannot_be_meant_is_refused(meant, hosts, limits, words):
    with pytest.raises(DockstackError) as refused:
        meant(*hosts, limits=limits)
    assert words in str(refused.value)


def test_nodes_that_were_added_are_reached_as_they_were_then():
    entries = [Entry("one", "admin@fd00::7:2222", "one.example.org", "2026.2")]
    (found,) = targets.noted(entries, {"key": "id", "jump": None}).values()
    assert [found[name] for name in ("user", "address", "port", "key")] == ["admin", "fd00::7", 2222, "id"]
    assert "jump" not in found


def test_how_a_node_was_reached_wins_over_what_is_said_for_all(tmp_path):
    way = {"key": "/root/.ssh/nodes", "jump": "me@bastion:2022", "known_hosts": "/root/known"}
    entries = [Entry("one", "admin@one:22", "one", "2026.2", **way), Entry("two", "admin@two:22", "two", "2026.2")]
    found = targets.noted(entries, {"key": "id", "jump": None, "known_hosts": None})
    assert {name: found["one"][name] for name in way} == way
    assert (found["two"]["key"], "jump" in found["two"], "known_hosts" in found["two"]) == ("id", False, False)
