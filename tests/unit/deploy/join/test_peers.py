# SPDX-License-Identifier: Apache-2.0
"""Which keys of nodes are believed, and what each is told of the others; over SSH to a server of the test's own."""

from __future__ import annotations

import pytest

from dockstack.deploy.configuration import migration
from dockstack.deploy.join import peers
from dockstack.deploy.join.peers import Peer, Peers
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
KEY = f"ssh-ed25519 {'A' * 68}"
OTHER = f"ssh-ed25519 {'B' * 67}="


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The node's files, which are this machine's here."""
    names = ("CLIENT_PUBLIC", "HOST_PUBLIC", "KNOWN_HOSTS", "AUTHORIZED_KEYS")
    for name in names:
        monkeypatch.setattr(migration, name, str(tmp_path / name))
    return {name: tmp_path / name for name in names}


def test_a_node_tells_its_keys_and_not_where_it_listens(connected, files):
    files["CLIENT_PUBLIC"].write_text(f"{KEY} nova@elsewhere\n")
    files["HOST_PUBLIC"].write_text(f"{OTHER}\n")
    assert peers.ask(connected, "192.0.2.7") == Peer("192.0.2.7", KEY, OTHER)


@pytest.mark.parametrize("said", ["", "ssh-rsa AAAA", f'command="sh" {KEY}', f"{KEY}\n{KEY}", "ssh-ed25519 A$(id)"])
def test_what_is_no_key_is_not_written_into_the_files_of_others(connected, files, said):
    files["CLIENT_PUBLIC"].write_text(f"{KEY}\n")
    files["HOST_PUBLIC"].write_text(f"{said}\n")
    with pytest.raises(DockstackError, match="does not tell its keys"):
        peers.ask(connected, "192.0.2.7")


def test_a_node_learns_of_all_others_by_the_hand_of_its_own_user(connected, files, server, tmp_path):
    runuser = tmp_path / "stubs" / "runuser"
    runuser.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/as\nshift 3; exec "$@"\n')
    runuser.chmod(0o755)
    files["KNOWN_HOSTS"].write_text("of before\n")
    peers.introduce(connected, [Peer("192.0.2.7", KEY, OTHER), Peer("192.0.2.8", OTHER, KEY)])
    assert files["KNOWN_HOSTS"].read_text() == f"[192.0.2.7]:8222 {OTHER}\n[192.0.2.8]:8222 {KEY}\n"
    assert [line[-len(KEY) :] for line in files["AUTHORIZED_KEYS"].read_text().splitlines()] == [KEY, OTHER]
    assert {line.split(" -- ")[0] for line in (tmp_path / "as").read_text().splitlines()} == {"-u nova"}


def test_a_node_that_was_added_again_elsewhere_is_known_once(tmp_path):
    known = Peers(tmp_path)
    known.note("a", Peer("192.0.2.7", KEY, KEY))
    known.note("b", Peer("192.0.2.7", OTHER, OTHER))
    assert known.all() == (Peer("192.0.2.7", OTHER, OTHER),)
    known.forget("b")
    known.forget("b")
    assert known.all() == (Peer("192.0.2.7", KEY, KEY),)
