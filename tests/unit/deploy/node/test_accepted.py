# SPDX-License-Identifier: Apache-2.0
"""The archive that a machine comes up from: one for it, with room, and known to later runs that want the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockstack.deploy import paths
from dockstack.deploy.node import accepted, baked
from dockstack.deploy.node.baked import BakedError
from dockstack.deploy.node.own_package import lock_digest
from dockstack.deploy.wanted import inventory

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    places = {
        "BAKED": "var/baked",
        "BAKED_NOTE": "var/note",
        "VAR": "var",
        "OPENSTACK_VENV": "opt/os",
        "CLI_VENV": "opt/c",
    }
    for name, place in places.items():
        monkeypatch.setattr(paths, name, str(tmp_path / place))
    monkeypatch.setattr(accepted, "SPARE_MB", 0)


def wanted(release="2026.2"):
    return inventory.load(None, ["distribution=debian-12", f"release={release}"]).local.attributes


ORIGIN = accepted.origin_here(wanted())


def bake(directory, content="an image", **changes):
    image, work = directory / "built", directory / "work"
    image.write_text(content)
    work.mkdir(exist_ok=True)
    trees = dict.fromkeys((baked.OPENSTACK, baked.COMMAND_LINE, baked.PACKAGES), image)
    origin = replace(ORIGIN, **changes)
    return baked.write(directory / "cloud.tar.zst", origin, trees, lambda _: None, work=work)


@pytest.fixture
def archive(tmp_path):
    return bake(tmp_path)


@pytest.mark.parametrize("name", ["dockstack", "release", "distribution", "architecture", "python"])
def test_one_for_something_else_is_refused_and_nothing_is_noted(archive, name):
    with pytest.raises(BakedError, match=f"was baked for {name}"):
        accepted.accept(archive, replace(ORIGIN, **{name: "another"}))
    assert accepted.noted(wanted()) is None


def test_later_runs_know_it_until_the_cloud_is_up(archive):
    accepted.accept(archive, ORIGIN)
    assert accepted.noted(wanted()) == archive
    accepted.forget()
    assert accepted.noted(wanted()) is None


def test_one_that_is_gone_counts_for_nothing(archive):
    accepted.accept(archive, ORIGIN)
    archive.path.unlink()
    assert accepted.noted(wanted()) is None


def test_a_run_that_wants_another_release_does_not_take_it(archive):
    accepted.accept(archive, ORIGIN)
    assert accepted.noted(wanted("2026.1")) is None


def test_a_run_of_another_version_does_not_take_it(archive, monkeypatch):
    accepted.accept(archive, ORIGIN)
    monkeypatch.setattr(accepted, "source_hash", lambda: "pulled meanwhile")
    assert accepted.noted(wanted()) is None


def test_another_file_in_its_place_is_not_the_one_that_was_accepted(archive, tmp_path):
    accepted.accept(archive, ORIGIN)
    bake(tmp_path, "another image")
    assert accepted.noted(wanted()) is None


def test_what_was_unpacked_of_another_goes_and_of_the_same_stays(archive, tmp_path):
    accepted.accept(archive, ORIGIN)
    left = Path(paths.BAKED, "packages")
    left.mkdir(parents=True)
    accepted.accept(archive, ORIGIN)
    assert left.exists()
    accepted.accept(bake(tmp_path, "another image"), ORIGIN)
    assert not left.exists()


def test_one_without_room_is_refused_and_nothing_is_noted(archive, monkeypatch):
    monkeypatch.setattr(accepted, "SPARE_MB", 1 << 40)
    with pytest.raises(BakedError, match="MiB free"):
        accepted.accept(archive, ORIGIN)
    assert accepted.noted(wanted()) is None


def installed(venv, digest):
    Path(venv).mkdir(parents=True)
    Path(venv, ".dockstack-lock").write_text(f"{digest}\n")


def test_a_machine_that_has_it_all_needs_no_room(archive, monkeypatch):
    monkeypatch.setattr(accepted, "SPARE_MB", 1 << 40)
    installed(paths.OPENSTACK_VENV, lock_digest("2026.2/openstack"))
    installed(paths.CLI_VENV, lock_digest("cli"))
    Path(paths.VAR, "mariadb/mysql").mkdir(parents=True)
    accepted.accept(archive, ORIGIN)


def test_an_upgrade_needs_room_for_the_new_environment_alone(archive):
    installed(paths.OPENSTACK_VENV, "that of another release")
    installed(paths.CLI_VENV, lock_digest("cli"))
    Path(paths.VAR, "mariadb/mysql").mkdir(parents=True)
    assert [(part.name, str(place)) for part, place in accepted._missing(archive)] == [
        (baked.OPENSTACK, paths.OPENSTACK_VENV)
    ]


def test_each_file_system_needs_room_for_its_own_parts(archive, monkeypatch):
    """Two parts of 1000 MiB each on two file systems that have 1500 MiB: no refusal; on one: a refusal."""
    large = replace(archive, parts=tuple(replace(part, unpacked=1000 << 20) for part in archive.parts[1:]))
    monkeypatch.setattr(accepted.shutil, "disk_usage", lambda _: SimpleNamespace(free=1500 << 20))
    for place in (paths.CLI_VENV, paths.VAR):
        Path(place).mkdir(parents=True, exist_ok=True)
    with pytest.raises(BakedError, match="2000 MiB"):
        accepted._require_room(large)
    devices = {str(Path(paths.CLI_VENV)): 1, str(Path(paths.VAR)): 2}
    monkeypatch.setattr(accepted, "_device", lambda place: devices[str(place)])
    accepted._require_room(large)
