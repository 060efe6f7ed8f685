# SPDX-License-Identifier: Apache-2.0
"""Connections over SSH, to real servers of the test's own (tests/ssh_server.py)."""

from __future__ import annotations

from dataclasses import replace

import paramiko
import pytest

from dockstack.deploy.node import connection
from dockstack.deploy.node.connection import UnreachableError, ssh_config
from dockstack.deploy.node.output import Output
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.inventory import Node
from ssh_server import serving

pytestmark = pytest.mark.unit


@pytest.fixture
def key(tmp_path, monkeypatch):
    """A key pair; the person has no agent and no configuration."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = paramiko.ECDSAKey.generate()
    made.write_private_key_file(str(tmp_path / "id"))
    return made


@pytest.fixture
def server(tmp_path, key):
    with serving(tmp_path / "server", {"root": key, "admin": key}) as made:
        yield made


@pytest.fixture
def node(tmp_path, server):
    (tmp_path / "known_hosts").write_text(server.known_hosts_line)
    return Node(
        "one",
        inventory.load(None).local.attributes,
        connector="@ssh",
        address="127.0.0.1",
        port=server.port,
        key=str(tmp_path / "id"),
        known_hosts=str(tmp_path / "known_hosts"),
    )


def test_on_this_machine_a_question_does_not_go_through_the_engine(node, monkeypatch):
    here = connection.connect(replace(node, connector="@local"))
    with_engine = here._run("printf 'a\\n\\nb \\n\\n'; echo no >&2; cat; exit 3", "in\n", 30, sudo=False)
    monkeypatch.setattr(here.host, "run_shell_command", None)
    assert here.run("printf 'a\\n\\nb \\n\\n'; echo no >&2; cat; exit 3", "in\n", 30) == with_engine
    assert with_engine == Output(ok=False, stdout="a\n\nb \n\nin", stderr="no")
    assert here.run("printf '\\377'; cat", None, 30) == Output(ok=True, stdout="\ufffd", stderr="")
    with pytest.raises(TimeoutError):
        here.run("sleep 60", None, 1)


def test_root_runs_commands_without_sudo(node, server):
    link = connection.connect(node)
    assert link.run("echo told; echo seen >&2", None, 20).lines == ["told"]
    assert not link.run("exit 3", None, 20).ok
    assert link.run("cat", "given\n", 20).stdout == "given"
    assert not any("sudo" in command for command in server.commands)


def test_anybody_else_runs_commands_by_sudo(node, server):
    server.sudo()
    link = connection.connect(replace(node, user="admin"))
    assert link.run("echo told", None, 20).stdout == "told"
    assert [words for words in server.by_sudo if "echo told" in words]


def test_a_user_without_sudo_is_refused_at_once(node, server):
    server.sudo(exit_status=1)
    with pytest.raises(UnreachableError, match="sudo does not work there"):
        connection.connect(replace(node, user="admin"))


def test_a_machine_that_goes_down_while_it_is_entered_is_said_to(node, server):
    server.fatal = "sudo -n true"
    with pytest.raises(UnreachableError, match="The connection to one broke"):
        connection.connect(replace(node, user="admin"))


def test_a_host_key_that_is_not_known_is_refused(node, tmp_path):
    (tmp_path / "nobody").write_text("")
    with pytest.raises(UnreachableError) as refused:
        connection.connect(replace(node, known_hosts=str(tmp_path / "nobody")))
    assert "ssh-keyscan" in refused.value.resolution
    assert (tmp_path / "nobody").read_text() == ""


def test_a_host_key_that_is_another_one_is_refused(node, server):
    server.new_host_key()
    with pytest.raises(UnreachableError, match="its host key is another"):
        connection.connect(node)
    assert server.commands == []


def test_a_user_whom_nobody_knows_is_refused(node):
    with pytest.raises(UnreachableError, match="does not let nobody in"):
        connection.connect(replace(node, user="nobody"))


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(node, key, tmp_path):
    key.write_private_key_file(str(tmp_path / "locked"), password="open sesame")
    with pytest.raises(UnreachableError, match="has a passphrase"):
        connection.connect(replace(node, key=str(tmp_path / "locked")))


def test_a_key_that_is_not_there_is_named(node):
    with pytest.raises(UnreachableError, match="/no/key cannot be read: No such file"):
        connection.connect(replace(node, key="/no/key"))


def test_where_nobody_answers_is_said(node, server):
    server.close()
    with pytest.raises(UnreachableError, match="cannot be reached"):
        connection.connect(node)


def test_a_broken_connection_is_no_answer(node, server):
    link = connection.connect(node)
    server.hang_up()
    with pytest.raises(UnreachableError, match="broke"):
        link.run("true", None, 20)


def test_neither_is_one_that_breaks_in_the_midst_of_a_command(node, server):
    link = connection.connect(node)
    server.fatal = "test -e"
    with pytest.raises(UnreachableError, match="broke"):
        link.run("test -e /no/such/file", None, 20)


class TestJumpHosts:
    @pytest.fixture
    def jump(self, tmp_path, key, node):
        with serving(tmp_path / "jump", {"guest": key}) as made:
            yield made

    def through(self, node, jump):
        return replace(node, jump=f"guest@127.0.0.1:{jump.port}")

    def test_a_node_is_reached_through_one(self, node, server, jump, tmp_path):
        with (tmp_path / "known_hosts").open("a") as known:
            known.write(jump.known_hosts_line)
        link = connection.connect(self.through(node, jump))
        assert link.run("echo told", None, 20).stdout == "told"
        assert jump.forwarded == [("127.0.0.1", server.port)]
        assert jump.commands == []

    def test_its_host_key_must_be_known_too(self, node, jump):
        with pytest.raises(UnreachableError) as refused:
            connection.connect(self.through(node, jump))
        assert "No host key" in refused.value.brief
        assert jump.forwarded == []


def test_the_persons_own_configuration_counts_but_not_for_what_is_strict():
    attributes = inventory.load(None).local.attributes
    node = Node("one", attributes, connector="@ssh", address="192.0.2.7", jump="a@b:22,c@d")
    assert ssh_config(node).splitlines() == [
        "Host *",
        "  StrictHostKeyChecking yes",
        "Host one",
        "  HostName 192.0.2.7",
        "  ProxyJump a@b:22,c@d",
        "Host *",
        "Include ~/.ssh/config",
        "Host *",
        "  UserKnownHostsFile ~/.ssh/known_hosts /etc/ssh/ssh_known_hosts",
    ]
