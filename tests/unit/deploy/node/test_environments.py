# SPDX-License-Identifier: Apache-2.0
"""What a node's environments are made of."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from dockstack.deploy.node import environments, own_package

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


def test_what_a_lock_leaves_out_keeps_it_from_nobody(machine, monkeypatch):
    """uv would look for the hashes of what a package wants and no lock names, as ``without.in`` of 2026.1 has it."""
    one = machine({"cat /venv/.dockstack-lock": {"success": False}})
    given = []
    monkeypatch.setattr(one, "command", lambda line, **more: given.append((line, more.get("stdin"))))
    environments.ensure_environment(one, "/venv", "nova==33.0.2", title="")
    (install,) = [line for line, stdin in given if stdin == "nova==33.0.2"]
    assert {"--require-hashes", "--no-deps"} <= set(install)


def test_what_no_lock_names_is_not_installed():
    with pytest.raises(LookupError):
        environments.lock_entry("cli", "no-such-package")


def test_an_installed_dockstack_and_its_checkout_are_of_one_version(tmp_path):
    """Else `dockstack up` after `./dockstack up` installs itself anew, over what it is running."""
    site = tmp_path / "lib" / "site-packages"
    with zipfile.ZipFile(io.BytesIO(own_package.build_wheel())) as wheel:
        wheel.extractall(site)
    line = "from dockstack.deploy.node import own_package as e; print(e.checkout(), e.source_hash())"
    told = subprocess.run(
        [sys.executable, "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert told.stdout.split() == ["None", own_package.source_hash()]
