# SPDX-License-Identifier: Apache-2.0
"""`dockstack up --from`: an archive is looked at before anything is changed, and forgotten when the cloud is up."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from click.testing import CliRunner

from dockstack.cli import up as command
from dockstack.deploy.node import baked
from dockstack.deploy.node.own_package import source_hash

pytestmark = pytest.mark.unit


@pytest.fixture
def up(monkeypatch, tmp_path):
    monkeypatch.setattr(command.paths, "SAVED_OPTIONS", str(tmp_path / "saved-options.yaml"))
    monkeypatch.setattr(command.paths, "ENVIRONMENT_FILE", str(tmp_path / "none.yaml"))
    monkeypatch.setattr(command.paths, "BAKED", str(tmp_path / "baked"))
    monkeypatch.setattr(command.paths, "BAKED_NOTE", str(tmp_path / "note"))
    monkeypatch.setattr(command.paths, "LOCK_MARKER", str(tmp_path / "no-environment"))
    monkeypatch.setattr(command, "require_root", lambda _: None)
    monkeypatch.setattr(command, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(command.preflight, "check", lambda _: None)
    monkeypatch.setattr(baked, "SPARE_MB", 0)

    def run(archive, status=0):
        seen = []
        monkeypatch.setattr(command, "apply", lambda *_, **__: seen.append(baked.noted()) or status)
        done = CliRunner().invoke(
            command.up, ["--from", str(archive), "--set", "distribution=debian-12", "--skip-verify"]
        )
        return seen, done

    return run


@pytest.fixture
def archive(tmp_path):
    def build(**changes):
        origin = baked.origin_here(source_hash(), "2026.2", "debian-12")
        (tmp_path / "tree").mkdir()
        return baked.write(
            tmp_path / "cloud.tar.zst",
            replace(origin, **changes),
            {baked.PACKAGES: tmp_path / "tree"},
            lambda _: None,
        )

    return build


def test_stages_find_it_and_afterwards_nobody_does(up, archive):
    made = archive()
    seen, done = up(made.path)
    assert (seen, done.exit_code) == ([made], 0), done.output
    assert baked.noted() is None


def test_a_run_that_failed_leaves_it_to_the_next(up, archive):
    made = archive()
    _, done = up(made.path, status=1)
    assert done.exit_code == 1
    assert baked.noted() == made


def test_one_for_something_else_changes_nothing(up, archive):
    seen, done = up(archive(dockstack="another").path)
    assert not seen
    assert "was baked for dockstack" in str(done.exception)
