# SPDX-License-Identifier: Apache-2.0
"""dockstack on a node, over SSH to a server of the test's own; Python, pip and uv there only note what is asked."""

from __future__ import annotations

import threading
import zipfile
from dataclasses import replace

import pytest

from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join.command_line import CommandLine
from dockstack.deploy.node import own_package
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.manifest import Made, Manifest
from dockstack.deploy.run.lock import exclusive
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
# As `python -m venv DIRECTORY` and `uv venv DIRECTORY` do, with programs that are copies of this one.
PROGRAM = """\
#!/bin/sh
printf '%s %s\\n' "${{0##*/}}" "$*" >>{notes}
for last; do :; done
case "${{0##*/}} $*" in
*ensurepip*) test -e {root}/venv-is-installed ;;
*"-m venv "* | "uv venv "*) mkdir -p "$last/bin" && for each in python pip uv; do cp "$0" "$last/bin/$each"; done ;;
*require-hashes*) grep -q sha256 "$last" ;;
*.whl) test ! -e {root}/disk-is-full && cp "$last" {root} ;;
esac
"""
APT = """\
#!/bin/sh
printf 'apt-get %s\\n' "$*" >>{notes}
case "$*" in *install*) : >{root}/venv-is-installed ;; esac
"""


@pytest.fixture
def node(tmp_path, connected):
    """A bare machine: Python without venv, a package manager, and where dockstack's things will be."""
    for path, text in ((tmp_path / "python", PROGRAM), (tmp_path / "stubs" / "apt-get", APT)):
        path.write_text(text.format(notes=tmp_path / "notes", root=tmp_path))
        path.chmod(0o755)
    return replace(DEBIAN_12, python=str(tmp_path / "python"))


@pytest.fixture
def ours(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "wheel", "w") as wheel:
        wheel.writestr("dockstack/__init__.py", "")
    content = (tmp_path / "wheel").read_bytes()
    monkeypatch.setattr(own_package, "build_wheel", lambda: content)
    return CommandLine(
        str(tmp_path / "cli"), str(tmp_path / "uv"), *(str(tmp_path / name) for name in ("state", "guard"))
    )


def notes(tmp_path):
    return (tmp_path / "notes").read_text().splitlines()


def test_a_bare_machine_gets_it_and_then_has_it(ours, node, connected, tmp_path):
    assert not ours.is_on(connected)
    ours.ship(connected, node)
    assert ours.is_on(connected)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.read_bytes() == (tmp_path / "wheel").read_bytes()
    assert Manifest(tmp_path / "state").entries() == [Made("package", "python3-venv")]
    assert any(line.startswith("apt-get install") and "python3-venv" in line for line in notes(tmp_path))
    assert sorted(path.name for path in (tmp_path / "cli").iterdir()) == [".dockstack-lock", ".dockstack-wheel", "bin"]


def test_a_second_time_nothing_is_made_anew(ours, node, connected, tmp_path):
    ours.ship(connected, node)
    before = len(notes(tmp_path))
    ours.ship(connected, node)
    again = notes(tmp_path)[before:]
    assert not [line for line in again if "venv" in line or "apt-get" in line]


def test_what_was_broken_off_does_not_count_and_is_installed_again_whole(ours, node, connected, tmp_path):
    (tmp_path / "disk-is-full").touch()
    with pytest.raises(DockstackError, match="one could not make dockstack's environment"):
        ours.ship(connected, node)
    assert not ours.is_on(connected)
    assert not [line for line in notes(tmp_path) if "--require-hashes --reinstall" in line]
    (tmp_path / "disk-is-full").unlink()
    ours.ship(connected, node)
    assert ours.is_on(connected)
    assert [line for line in notes(tmp_path) if "--require-hashes --reinstall" in line]


def test_a_run_that_is_still_at_work_there_is_waited_for(ours, node, connected, tmp_path):
    with exclusive("node add", tmp_path / "guard"):
        waiting = threading.Thread(target=ours.ship, args=(connected, node))
        waiting.start()
        waiting.join(0.5)
        assert not ours.is_on(connect(connected.node))
    waiting.join(240)
    assert ours.is_on(connected)
    with exclusive("node add", tmp_path / "guard"):
        pass  # it has let go


def test_another_version_is_not_this_one(ours, node, connected, tmp_path):
    ours.ship(connected, node)
    (tmp_path / "cli" / ".dockstack-wheel").write_text("another\n")
    assert not ours.is_on(connected)
