# SPDX-License-Identifier: Apache-2.0
"""`dockstack up --from`: an archive is looked at before anything is changed, and forgotten when the cloud is up."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from click.testing import CliRunner

from dockstack.cli import up as command
from dockstack.deploy.node import accepted, baked
from dockstack.deploy.wanted import inventory

pytestmark = pytest.mark.unit

ATTRIBUTES = inventory.load(None, ["distribution=debian-12"]).local.attributes


@pytest.fixture
def up(monkeypatch, tmp_path):
    monkeypatch.setattr(command.paths, "SAVED_OPTIONS", str(tmp_path / "saved-options.yaml"))
    monkeypatch.setattr(command.paths, "ENVIRONMENT_FILE", str(tmp_path / "none.yaml"))
    monkeypatch.setattr(command.paths, "BAKED", str(tmp_path / "baked"))
    monkeypatch.setattr(command.paths, "BAKED_NOTE", str(tmp_path / "note"))
    monkeypatch.setattr(command, "require_root", lambda _: None)
    monkeypatch.setattr(command, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(command.preflight, "check", lambda _: None)
    monkeypatch.setattr(accepted, "SPARE_MB", 0)

    def run(archive, status=0):
        seen = []
        monkeypatch.setattr(command, "apply", lambda *_, **__: seen.append(accepted.noted(ATTRIBUTES)) or status)
        done = CliRunner().invoke(
            command.up, ["--from", str(archive), "--set", "distribution=debian-12", "--skip-verify"]
        )
        return seen, done

    return run


@pytest.fixture
def archive(tmp_path):
    def build(**changes):
        origin = accepted.origin_here(ATTRIBUTES)
        for name in ("tree", "work"):
            (tmp_path / name).mkdir()
        return baked.write(
            tmp_path / "cloud.tar.zst",
            replace(origin, **changes),
            {baked.PACKAGES: tmp_path / "tree"},
            lambda _: None,
            work=tmp_path / "work",
        )

    return build


def test_stages_find_it_and_afterwards_nobody_does(up, archive):
    made = archive()
    seen, done = up(made.path)
    assert (seen, done.exit_code) == ([made], 0), done.output
    assert accepted.noted(ATTRIBUTES) is None


def test_a_run_that_failed_leaves_it_to_the_next(up, archive):
    made = archive()
    _, done = up(made.path, status=1)
    assert done.exit_code == 1
    assert accepted.noted(ATTRIBUTES) == made


def test_one_for_something_else_changes_nothing(up, archive):
    seen, done = up(archive(dockstack="another").path)
    assert not seen
    assert "was baked for dockstack" in str(done.exception)
