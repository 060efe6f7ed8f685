# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.wanted.inventory import Role, load
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

DOCUMENT = """
attributes:
  region: North
  workers: {conductor: 2}
roles:
  compute: {compute.reserved_memory_mb: 100, region: South}
nodes:
  here: {connector: "@local", roles: [controller, network], attributes: {docker.enable: false}}
  far: {connector: "@ssh", address: 192.0.2.7, user: debian, roles: [compute], attributes: {workers.conductor: 3}}
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text):
        path = tmp_path / "dockstack.yaml"
        path.write_text(text)
        return path

    return to_file


def test_without_a_file_there_is_one_node_with_all_roles():
    inventory = load(None)
    assert inventory.local.roles == frozenset(Role)
    assert inventory.local.connector == "@local"


def test_role_file_node_and_command_line_stand_over_each_other_in_this_order(write):
    here, far = load(write(DOCUMENT), ["debug=true"]).nodes
    assert here.attributes["compute.reserved_memory_mb"] == 512
    assert far.attributes["compute.reserved_memory_mb"] == 100
    assert far.attributes.text("region") == "North"  # the file's section stands over the role's
    assert (here.attributes["workers.conductor"], far.attributes["workers.conductor"]) == (2, 3)
    assert "node far" in far.attributes.setting("workers.conductor").source
    assert here.attributes.flag("debug")
    assert far.attributes.flag("debug")


def test_docker_is_decided_per_node(write):
    here, far = load(write(DOCUMENT)).nodes
    assert not here.attributes.flag("docker.enable")
    assert far.attributes.flag("docker.enable")
    assert (far.address, far.user) == ("192.0.2.7", "debian")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("atributes: {}", "Did you mean attributes?"),
        ("nodes: {a: {role: [compute]}}", "Did you mean roles?"),
        ("nodes: {a: {roles: [comptue]}}", "Did you mean compute?"),
        ("nodes: {a: {roles: compute}}", "Write roles: [controller, compute]."),
        ("nodes: [a]", "Write nodes as names"),
        ("nodes: {a: {port: ssh}}", "Write a number"),
        ("nodes: {a: {connector: ssh}}", "@ssh"),
        ("just text", "Use the sections"),
        ("a: [", "Correct the place"),
    ],
)
def test_what_is_not_known_is_refused_with_a_hint(write, text, hint):
    with pytest.raises(DockstackError) as refused:
        load(write(text))
    assert hint in str(refused.value)


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(DockstackError, match="There is no environment file"):
        load(tmp_path / "none.yaml", required=True)
    assert load(tmp_path / "none.yaml").local


def test_a_leading_zero_in_the_file_is_octal(write):
    node = load(write("attributes: {docker.socket_mode: 0640}")).local
    assert node.attributes["docker.socket_mode"] == 0o640
