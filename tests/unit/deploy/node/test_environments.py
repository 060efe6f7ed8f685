# SPDX-License-Identifier: Apache-2.0
"""What a node's environments are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.node import environments

pytestmark = pytest.mark.unit


def test_uv_is_installed_in_the_locked_version_and_by_hash(machine, monkeypatch):
    given = []
    one = machine({"test -e": {"success": False}})
    one.node = replace(one.node, connector="@ssh")
    monkeypatch.setattr(one, "packages", lambda *_: False)
    monkeypatch.setattr(one, "command", lambda line, stdin: given.append((line, stdin)))
    assert environments.uv_program(one) == f"{environments.NODE_UV}/bin/uv"
    ((line, lock),) = given
    assert "pip install -q --require-hashes -r /dev/stdin" in line
    first, *rest = lock.splitlines()
    assert first.startswith("uv==")
    assert len(rest) > 5
    assert all(one.strip().startswith("--hash=sha256:") for one in rest)
    assert not lock.rstrip().endswith("\\")


def test_what_no_lock_names_is_not_installed():
    with pytest.raises(LookupError):
        environments.lock_entry("cli", "no-such-package")
