# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser

import pytest

from dockstack.deploy.configuration import registry
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.settings import SECRET_NAMES
from dockstack.deploy.recipes import registry as recipe
from dockstack.deploy.recipes.facts import settings_from, settings_of
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted.inventory import load
from dockstack.registry.configuration import Configuration

pytestmark = pytest.mark.unit

OFF = "registry.enable=false"


def settings(*assignments, **more):
    attributes = load(None, assignments).local.attributes
    return settings_from(
        attributes, None, dict.fromkeys(SECRET_NAMES, "x"), hostname="node1", datapath="system", resolvers=(), **more
    )


def stage(*assignments):
    return next(one for one in node_stages(load(None, assignments).local) if one.name == "registry")


def test_it_is_there_unless_somebody_says_no_or_glance_filters_nothing():
    assert stage().apply is recipe.start
    assert stage(OFF).apply is recipe.stop
    assert stage("release=2026.1").apply is recipe.stop


def test_it_starts_when_what_it_asks_is_there():
    assert {"database", "identity", "glance"} <= set(stage().after)
    assert "openstack-environment" in stage("docker.enable=false").after
    assert "identity" in stage(OFF).after, "it takes it out of the catalogue"


def test_glance_reads_from_it_also_after_it_ran_once_and_never_where_nothing_filters_that():
    assert not settings(OFF).http_images
    assert settings().http_images
    assert settings(OFF, registry_ran=True).http_images, "images of it can be deleted"
    for unfiltered in (
        settings("registry.enable=true", "release=2026.1"),
        settings("release=2026.1", registry_ran=True),
    ):
        assert (unfiltered.registry, unfiltered.http_images) == (False, False)


def test_what_ran_once_is_known_by_the_manifest(machine):
    one = machine({"hostname": "node1\nsystem"}, OFF)
    assert not settings_of(one).http_images
    one.manifest.set_done("registry-account", "x")
    assert settings_of(one).http_images


def test_disabling_takes_the_process_and_its_passwords_away(machine):
    one = machine({"hostname": "node1\nsystem"}, OFF)
    one.records.define(registry.service(settings()))
    recipe.stop(one)
    assert not one.records.services()
    assert any(registry.CONF in line and line.startswith("rm ") for line in one.commands), one.commands
    assert not [line for line in one.commands if "provision.py" in line], "nothing of it was in the catalogue"


def test_nobody_is_sent_to_a_registry_that_was_turned_off(machine, monkeypatch):
    monkeypatch.setattr(recipe, "ensure_running", lambda *_: None)
    one = machine({"hostname": "node1\nsystem"}, OFF)
    one.manifest.set_done("registry-account", "x")
    recipe.stop(one)
    recipe.stop(one)
    assert len([line for line in one.commands if "provision.py withdraw" in line]) == 1, one.commands
    assert settings_of(one).http_images, "images of it can still be deleted"
    recipe.start(one)
    assert [line for line in one.commands if "provision.py identity" in line], "it is there again"


def test_its_file_is_what_its_program_reads(tmp_path):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(render_ini(registry.registry_conf(settings())))
    path = tmp_path / "registry.conf"
    with path.open("w") as file:
        parser.write(file)
    read = Configuration.read(str(path))
    assert (read.port, str(read.directory)) == (5005, "/var/lib/dockstack/registry")
    assert read.database.startswith("mysql+pymysql://registry:")
