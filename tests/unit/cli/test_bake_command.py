# SPDX-License-Identifier: Apache-2.0
"""`dockstack bake`: what a killed run left ends first, and what a person is told after a failure is true of it."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from dockstack.cli import bake as command
from dockstack.deploy.baking import bake as story
from dockstack.deploy.run import apply
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.fixture
def bake(monkeypatch, tmp_path):
    """Run the command with a stand-in for the story; return what was done, and how it ended."""
    done = []
    monkeypatch.setattr(command, "require_root", lambda _: None)
    monkeypatch.setattr(command, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(command, "LOG", str(tmp_path / "log/bake.log"))
    monkeypatch.setattr(apply, "end_leftovers", lambda: done.append("leftovers"))

    def run(rehearses):
        def told(out, _node, rehearse, _say):
            done.append("bake")
            if rehearses:
                rehearse(tmp_path)
            out.write_text("archive")
            return SimpleNamespace(path=out)

        monkeypatch.setattr(story, "bake", told)
        return done, CliRunner().invoke(command.bake, [str(tmp_path / "cloud.tar.zst"), "--set", "hosts=1"])

    return run


def test_what_a_killed_run_left_at_work_is_ended_before_it_begins(bake):
    done, ended = bake(rehearses=False)
    assert (done, ended.exit_code) == (["leftovers", "bake"], 0), ended.output


def test_a_rehearsal_that_dies_is_not_said_to_go_on_from_there(bake, monkeypatch):
    monkeypatch.setattr("dockstack.deploy.baking.rehearsal.NAMESPACES", (sys.executable, "-c", "", "--"))
    _, ended = bake(rehearses=True)
    assert isinstance(ended.exception, DockstackError)
    assert ended.exception.resolution == "Run `dockstack bake` again: it begins anew."
