# SPDX-License-Identifier: Apache-2.0
"""`./dockstack` finds its Python, or says what to install."""

from __future__ import annotations

import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCHER = CHECKOUT / "dockstack"
BOOTSTRAP = CHECKOUT / "tools/bootstrap.py"


def launch(path: Path, launcher: Path = LAUNCHER, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [launcher, *arguments], env={"PATH": str(path)}, capture_output=True, text=True, check=False, timeout=60
    )


def test_without_python_it_says_what_to_install(tmp_path):
    done = launch(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "error: dockstack needs Python 3.11 to 3.14, and there is no python3 on the PATH.",
        "what to do: On Debian 12 or 13, as root: apt-get install python3 python3-venv; then run this again.",
    ]


def test_python_gets_the_bootstrap_and_all_words_also_by_a_link(tmp_path):
    (tmp_path / "readlink").symlink_to("/usr/bin/readlink")
    (tmp_path / "python3").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    link = tmp_path / "a link"
    link.symlink_to(LAUNCHER)
    for launcher in (LAUNCHER, link):
        done = launch(tmp_path, launcher, "up", "--set", "a=b c")
        assert done.stdout.splitlines() == [str(BOOTSTRAP), "up", "--set", "a=b c"]


@pytest.fixture
def bootstrap():
    spec = spec_from_file_location("bootstrap", BOOTSTRAP)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_python_that_is_too_old_is_named(bootstrap, tmp_path, monkeypatch):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setattr(bootstrap, "PYTHONS", (str(old), str(old)))
    with pytest.raises(SystemExit, match=f"needs Python 3.11 to 3.14, and there is none of {old}\\.") as ended:
        bootstrap.find_python()
    assert "apt-get install python3" in ended.value.code


def test_the_first_python_that_is_new_enough_is_taken(bootstrap, tmp_path, monkeypatch):
    new = tmp_path / "python3.11"
    new.write_text("#!/bin/sh\nexit 0\n")
    new.chmod(0o755)
    monkeypatch.setattr(bootstrap, "PYTHONS", (str(tmp_path / "none"), str(new)))
    assert bootstrap.find_python() == str(new)


@pytest.mark.parametrize(("file", "stays"), [("virt/__pycache__/docker.cpython-311.pyc", False), ("mine.py", True)])
def test_a_folder_that_holds_caches_of_moved_files_only_is_removed(bootstrap, tmp_path, monkeypatch, file, stays):
    monkeypatch.setattr(bootstrap, "CHECKOUT", tmp_path)
    bootstrap.remove_old_caches()
    for name in ("__pycache__/x.pyc", file):
        (tmp_path / "src/nova" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src/nova" / name).touch()
    bootstrap.remove_old_caches()
    assert (tmp_path / "src/nova").exists() is stays
