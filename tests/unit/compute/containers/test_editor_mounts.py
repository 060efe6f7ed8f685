# SPDX-License-Identifier: Apache-2.0
"""Which servers get the mount broker's listener."""

from __future__ import annotations

import json
import socket

import pytest

from dockstack.compute.containers import editor

pytestmark = pytest.mark.unit

NAMESPACE = "/run/netns/nova-11111111-2222-4333-8444-555555555555"


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "seccomp.sock"))
        yield str(tmp_path / "seccomp.sock")


def give(path: str, policy: str = "kernel", rules: list | None = None) -> dict:
    rules = [{"names": ["read", "fsopen"], "action": "SCMP_ACT_ALLOW"}] if rules is None else rules
    seccomp: dict = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    editor.give_mounts({"linux": {"seccomp": seccomp}}, NAMESPACE, policy, path)
    return seccomp


def test_a_servers_mounts_are_the_brokers(path) -> None:
    seccomp = give(path)
    assert seccomp["listenerPath"] == path
    assert json.loads(seccomp["listenerMetadata"]) == {"server": NAMESPACE[16:], "policy": "kernel"}
    assert {rule["action"]: rule["names"][0] for rule in seccomp["syscalls"]} == {
        "SCMP_ACT_ALLOW": "read",
        "SCMP_ACT_NOTIFY": "mount",
        "SCMP_ACT_ERRNO": "fsopen",
    }
    assert [rule["errnoRet"] for rule in seccomp["syscalls"] if "errnoRet" in rule] == [38]


def test_without_a_broker_or_a_policy_nothing_changes(path) -> None:
    before = give("")
    assert give(path + ".none") == give(path, policy="") == before
    assert "listenerPath" not in before


def test_a_host_that_takes_nobody_in_any_more_starts_servers_without_it(path, tmp_path) -> None:
    (tmp_path / "seccomp.sock").chmod(0o400)
    assert "listenerPath" not in give(path)


def test_who_may_mount_by_a_right_of_its_own_keeps_it(path) -> None:
    rules = [{"names": ["mount", "umount2"], "action": "SCMP_ACT_ALLOW"}]
    assert give(path, rules=rules) == {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    editor.give_mounts({"linux": {}}, NAMESPACE, "kernel", path)


def test_a_socket_that_others_could_have_made_is_refused(path, tmp_path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(editor.Refusal, match="no socket of the mount broker"):
        give(path)


def test_a_file_in_its_place_is_refused(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(editor.Refusal):
        give(str(tmp_path / "file"))
