# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.node.secrets import Secrets
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def test_a_secret_is_made_once_and_kept_for_root_alone(tmp_path):
    path = tmp_path / "secrets.yaml"
    first = Secrets(path).get("admin")
    assert Secrets(path).get("admin") == first
    assert Secrets(path).get("other") != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.isalnum()
    assert len(first) >= 32


def test_two_at_once_agree(tmp_path):
    one, other = Secrets(tmp_path / "s"), Secrets(tmp_path / "s")
    assert one.get("a") == other.get("a")
    assert other.get("b") == one.get("b")


def test_redaction_covers_secrets_and_passwords_in_urls(tmp_path):
    secrets = Secrets(tmp_path / "s")
    text = f"password={secrets.get('a')} rabbit://guest:hunter2@host/ plain"
    assert secrets.redact(text) == "password=******** rabbit://guest:********@host/ plain"


def test_a_damaged_file_is_not_replaced(tmp_path):
    path = tmp_path / "s"
    path.write_text("a: [")
    with pytest.raises(DockstackError, match="damaged"):
        Secrets(path).get("a")
    assert path.read_text() == "a: ["


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
