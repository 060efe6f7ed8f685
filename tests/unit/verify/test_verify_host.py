# SPDX-License-Identifier: Apache-2.0
"""What verify knows of the machine's own compute hosts."""

from __future__ import annotations

import pytest

from dockstack import names
from dockstack.verify import host

pytestmark = pytest.mark.unit


def test_further_hosts_are_asked_in_their_own_mounts(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "EXTRA_HOSTS", tmp_path)
    (tmp_path / "host2.mnt").touch()
    (tmp_path / "host2").mkdir()
    asked = []
    monkeypatch.setattr(host, "ask", lambda *command: asked.append(command) or "node-2")
    assert host.further_names() == {"node-2"}
    (command,) = asked
    assert command == (*names.enter_host("host2"), "sed", "-n", "s/^host *= *//p", "/etc/nova/nova.conf")


def test_a_machine_with_one_host_has_no_further_names(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "EXTRA_HOSTS", tmp_path / "absent")
    assert host.further_names() == set()
