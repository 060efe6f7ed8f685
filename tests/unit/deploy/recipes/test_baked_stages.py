# SPDX-License-Identifier: Apache-2.0
"""Stages take from an archive what they would fetch or make; without one, all is as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockstack.deploy import paths
from dockstack.deploy.node import baked, baked_packages, environments
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
        if name == baked.DATABASES:
            (place / "mariadb").mkdir(parents=True, exist_ok=True)
            (place / "done").mkdir(exist_ok=True)
            (place / "done" / f"{MIGRATION}keystone").write_text("versions")


@pytest.fixture
def with_archive(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "BAKED", str(tmp_path / "baked"))
    monkeypatch.setattr(infrastructure.mariadb, "data_directory", lambda _: str(tmp_path / "mariadb"))

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


def test_an_environment_is_unpacked_where_it_is_missing(with_archive):
    one = with_archive()
    environments.ensure_environment(one, "/opt/x/openstack", "a lock", title="")
    assert one.baked.parts == [("openstack", Path("/opt/x/openstack"))]


def test_one_that_is_not_the_wanted_one_is_made_as_ever(with_archive):
    one = with_archive()
    environments.ensure_environment(one, "/opt/x/openstack", "a lock", title="")
    assert commands(one, "pip install")


def test_packages_come_from_the_archive_alone(with_archive):
    one = with_archive({"dpkg-query": {"success": False}})
    one.packages("memcached")
    (installed,) = [line for line in commands(one, " install ") if "--simulate" not in line]
    assert f"Dir::Etc::sourcelist={baked_packages.DIRECTORY}" in installed
    assert ("package", "memcached") in [(entry.kind, entry.name) for entry in one.manifest.entries()]


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
