# SPDX-License-Identifier: Apache-2.0
"""Stages take from an archive what they would fetch or make; without one, all is as ever."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockstack.deploy import paths
from dockstack.deploy.node import baked, baked_packages, environments
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.recipes import base_image, infrastructure, keystone
from dockstack.deploy.recipes.controller import MIGRATION
from dockstack.deploy.recipes.facts import settings_of

pytestmark = pytest.mark.unit

HERE = {"hostname": "node1\nsystem"}


class Unpacked:
    """An archive whose parts unpack to what a test has put there."""

    def __init__(self):
        self.parts = []

    def unpack(self, name, place):
        self.parts.append((name, place))
        place.mkdir(parents=True, exist_ok=True)
        if name == baked.DATABASES:
            (place / "mariadb").mkdir(exist_ok=True)
            (place / "done").mkdir(exist_ok=True)
            (place / "done" / f"{MIGRATION}keystone").write_text("versions")


@pytest.fixture
def with_archive(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "BAKED", str(tmp_path / "baked"))
    monkeypatch.setattr(infrastructure.mariadb, "data_directory", lambda _: str(tmp_path / "mariadb"))

    install = baked_packages.install
    place = str(tmp_path / "baked/packages")
    monkeypatch.setattr(baked_packages, "install", lambda *arguments: install(*arguments, place))

    def build(answers=None):
        one = machine({**HERE, **(answers or {})})
        one.baked = Unpacked()
        return one

    return build


def commands(machine, text):
    return [line for line in machine.commands if text in line]


def test_databases_are_placed_and_count_as_migrated_here(with_archive):
    one = with_archive()
    infrastructure._make_data_directory(one, settings_of(one))
    assert one.manifest.done(f"{MIGRATION}keystone") == "versions"
    assert one.manifest.done("database-created") == one.manifest.done("database-baked")
    assert commands(one, "mv -T")
    assert not commands(one, "mariadb-install-db")


def test_records_are_noted_before_the_database_is_there_and_its_files_are_on_the_disk(with_archive, monkeypatch):
    """A kill between them leaves records that count for nothing, not a database without its own."""
    one = with_archive()
    done, command = [], one.command
    monkeypatch.setattr(one.manifest, "set_done", lambda name, _: done.append(name))
    monkeypatch.setattr(one, "command", lambda line, **rest: done.append(str(line)) or command(line, **rest))
    infrastructure._make_data_directory(one, settings_of(one))
    assert "chown" in done[0]
    assert "sync -f" in done[0]
    assert set(done[1:-1]) == {"database-created", "database-baked", f"{MIGRATION}keystone"}
    assert "'mv', '-T'" in done[-1]


def test_two_machines_have_two_databases(with_archive):
    made = []
    for _ in range(2):
        one = with_archive()
        infrastructure._make_data_directory(one, settings_of(one))
        made.append(one.manifest.done("database-created"))
    assert made[0] != made[1]


def test_a_database_that_is_there_stays(with_archive, tmp_path):
    (tmp_path / "mariadb/mysql").mkdir(parents=True)
    one = with_archive()
    infrastructure._make_data_directory(one, settings_of(one))
    assert not one.baked.parts


def test_each_cloud_names_its_cell_itself_once_for_each_database(with_archive, monkeypatch):
    said = []
    monkeypatch.setattr(infrastructure, "run_sql", lambda _machine, _settings, sql: said.append(sql))
    one = with_archive()
    for created in ("first", "first", "second"):
        one.manifest.set_done("database-baked", created)
        infrastructure._make_its_own(one, settings_of(one), created)
    infrastructure._make_its_own(one, settings_of(one), "one that was made here")
    assert len(said) == len(set(said)) == 2


def test_an_environment_is_unpacked_where_it_is_missing(with_archive, tmp_path):
    one = with_archive()
    environments.ensure_environment(one, f"{tmp_path}/openstack", "a lock", title="")
    assert one.baked.parts == [("openstack", Path(f"{tmp_path}/openstack"))]


def test_one_that_is_not_the_wanted_one_is_made_as_ever(with_archive, tmp_path):
    one = with_archive()
    environments.ensure_environment(one, f"{tmp_path}/openstack", "a lock", title="")
    assert commands(one, "pip install")


def test_packages_come_from_the_archive_alone(with_archive, tmp_path):
    one = with_archive({"dpkg-query": {"success": False}})
    one.packages("memcached")
    (installed,) = [line for line in commands(one, " install ") if "--simulate" not in line]
    assert f"Dir::Etc::sourcelist={tmp_path}/baked/packages" in installed
    assert ("package", "memcached") in [(entry.kind, entry.name) for entry in one.manifest.entries()]


def test_stages_side_by_side_unpack_them_once_and_have_the_index_read_once(monkeypatch, tmp_path):
    """Two processes, as stages are; apt does not wait for another one that reads the same index."""
    packages, notes = tmp_path / "baked/packages", tmp_path / "notes"
    line = f"echo begin >> {notes}; sleep 0.2; echo end >> {notes}"
    monkeypatch.setattr(baked_packages, "update_line", lambda place: f"{line}; touch {place}/read")
    monkeypatch.setattr(baked_packages, "install_line", lambda *_, **__: ["true"])
    shell = LocalShell()
    node = SimpleNamespace(run=shell.run, command=lambda *_, **__: True, say=lambda _: None)
    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            try:
                os._exit(not baked_packages.install(["one"], Unpacked(), node, str(packages)))
            finally:
                os._exit(2)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert notes.read_text() == "begin\nend\n"


def test_those_that_it_lacks_come_from_the_mirror(with_archive):
    one = with_archive({"--simulate": {"success": False}, "dpkg-query": {"success": False}})
    one.packages("memcached")
    (installed,) = [line for line in commands(one, " install ") if "--simulate" not in line]
    assert "sourcelist" not in installed


def test_the_base_image_is_not_built_again(with_archive, tmp_path):
    one = with_archive()
    base_image.base_image(one)
    (made,) = commands(one, "dockstack.deploy.base_image")
    assert f"--archive {tmp_path}/baked/base-image" in made


def test_the_administrator_is_made_by_each_cloud(machine):
    one = machine(HERE)
    keystone.migrate_database(one)
    assert not commands(one, "bootstrap")
    keystone.bootstrap(one)
    assert commands(one, "bootstrap")
