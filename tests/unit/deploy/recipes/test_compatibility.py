# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from dockstack.deploy.configuration.compatibility import IMAGE
from dockstack.deploy.recipes import base_image, compatibility, networks
from wanted_cloud import stages

pytestmark = pytest.mark.unit

ON = "compatibility=devstack"
HERE = {"hostname": "node1\nsystem"}


def test_the_accounts_are_made_after_those_of_the_cloud_where_they_are_wanted():
    assert "people" not in stages()
    assert stages(ON)["people"].after == ("identity",)


def test_they_are_made_once(machine):
    one = machine(HERE, ON)
    compatibility.people(one)
    compatibility.people(one)
    assert len([line for line in one.commands if "provision.py people" in line]) == 1, one.commands


def test_the_base_image_stands_in_for_the_one_that_suites_boot_and_that_can_be_turned_on_later(machine):
    def made(one):
        return [line for line in one.commands if "dockstack.deploy.base_image" in line]

    one = machine(HERE)
    base_image.base_image(one)
    assert [IMAGE in line for line in made(one)] == [False]
    later = machine(HERE, ON)
    base_image.base_image(later)
    base_image.base_image(later)
    assert [IMAGE in line for line in made(later)] == [True]


def test_turned_off_the_clouds_are_written_no_more(machine, monkeypatch):
    written = {}
    for assignments in ((ON,), ()):
        one = machine(HERE, *assignments)
        monkeypatch.setattr(one, "file", lambda path, text, **_: written.update({path: text}))
        networks.client_files(one)
        assert ("devstack-admin:" in json.dumps(written["/etc/openstack/clouds.yaml"])) is bool(assignments)
