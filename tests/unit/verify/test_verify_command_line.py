# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from click.testing import CliRunner

from dockstack.cli.verify import verify
from dockstack.errors import DockstackError
from dockstack.verify.exercises import ALL

pytestmark = pytest.mark.unit


def test_list_names_every_exercise_and_asks_no_cloud():
    done = CliRunner().invoke(verify, ["--list", "--os-cloud", "no-such"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == [exercise.name for exercise in ALL]


def test_an_unknown_exercise_is_refused_before_anything_runs():
    done = CliRunner().invoke(verify, ["--only", "dokcer", "--os-cloud", "no-such"])
    assert done.exit_code == 1
    assert isinstance(done.exception, DockstackError)
    assert "docker" in done.exception.resolution


def test_a_cloud_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = CliRunner().invoke(verify, ["--os-cloud", "no-such"])
    assert isinstance(done.exception, DockstackError)
    assert "no cloud 'no-such'" in done.exception.brief
