# SPDX-License-Identifier: Apache-2.0
"""The services' environment looks for circular garbage seldom: a real Python of a real environment does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.recipes import environments

pytestmark = pytest.mark.unit


def thresholds(venv):
    program = "import gc; print(*gc.get_threshold())"
    return subprocess.run([venv / "bin/python", "-c", program], capture_output=True, text=True, check=True).stdout


def test_each_python_of_the_environment_looks_seldom_and_a_second_run_changes_nothing(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    assert thresholds(venv) == "700 10 10\n"
    environments.collect_seldom(LocalShell(), str(venv))
    assert thresholds(venv) == "10000 10 10\n"
    [written] = venv.glob(f"lib/*/site-packages/{environments.COLLECTOR_FILE}")
    before = written.stat()
    environments.collect_seldom(LocalShell(), str(venv))
    assert written.stat() == before


def test_the_services_get_it(monkeypatch, machine):
    seen = []
    monkeypatch.setattr(environments, "ensure_environment", lambda *_, **__: False)
    monkeypatch.setattr(environments, "collect_seldom", lambda _, venv: seen.append(venv))
    environments.openstack(machine())
    assert seen == [environments.paths.OPENSTACK_VENV]
