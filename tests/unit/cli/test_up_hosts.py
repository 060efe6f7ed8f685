# SPDX-License-Identifier: Apache-2.0
"""`dockstack up --hosts N` is remembered: more at once, fewer when they are gone."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import pytest
import yaml
from click.testing import CliRunner

from dockstack.cli import up as command
from dockstack.cli.config import show
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def assignments(line):
    """Return what the stages' command line sets."""
    return tuple(value for option, value in pairwise(line) if option == "--set")


@pytest.fixture
def up(monkeypatch, tmp_path):
    saved = tmp_path / "saved-options.yaml"
    monkeypatch.setattr(command.paths, "SAVED_OPTIONS", str(saved))
    monkeypatch.setattr(command.paths, "ENVIRONMENT_FILE", str(tmp_path / "none.yaml"))
    monkeypatch.setattr(command, "require_root", lambda _: None)
    monkeypatch.setattr(command, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(command.preflight, "check", lambda _: None)
    monkeypatch.setattr(command.accepted, "forget", lambda: None)

    def run(*options, status=0, before=None):
        if before:
            inventory.remember(saved, {"hosts": before})
        seen = []
        monkeypatch.setattr(command, "watch", lambda line, *_, **__: seen.append(assignments(line)) or status)
        CliRunner().invoke(command.up, [*options, "--skip-verify"])
        return seen, yaml.safe_load(saved.read_text())["hosts"] if saved.exists() else None

    return run


def test_more_hosts_are_remembered_even_if_the_run_fails(up):
    assert up("--hosts", "2", status=1) == ([("hosts=2",)], 2)


def test_fewer_only_when_they_are_gone(up):
    assert up("--hosts", "1", status=1, before=2) == ([("hosts=1",)], 2)
    assert up("--hosts", "1") == ([("hosts=1",)], 1)


def test_a_plain_run_forgets_nothing(up):
    assert up(before=2) == ([()], 2)


def test_the_timeline_is_written_whatever_becomes_of_the_run(up, tmp_path):
    page = tmp_path / "up.html"
    up("--timeline", str(page), status=1)
    assert "0 stages" in page.read_text()


def test_a_timeline_that_cannot_be_written_keeps_the_run_from_beginning(up):
    assert up("--timeline", "up.pdf") == ([], None)


def test_what_cannot_be_made_is_refused_before_anything_is_changed(monkeypatch, tmp_path):
    def touched(*_, **__):
        raise AssertionError("something was looked at or changed")

    for name in ("require_root", "exclusive", "watch"):
        monkeypatch.setattr(command, name, touched)
    path = tmp_path / "two.yaml"
    path.write_text("nodes: {local: {}, two: {connector: '@ssh', address: 192.0.2.7}}")
    result = CliRunner().invoke(command.up, ["--environment", str(path)])
    assert isinstance(result.exception, DockstackError)
    assert "two is to be a controller over SSH" in result.exception.brief
    shown = CliRunner().invoke(show, ["--environment", str(path), "--node", "two"])
    assert shown.exit_code == 0, shown.exception
