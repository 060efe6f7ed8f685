# SPDX-License-Identifier: Apache-2.0
"""What a DevStack's suites look for, and that a cloud has none of it unless it is wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from openstack.config import OpenStackConfig

from dockstack.deploy.configuration import compatibility, desired_state
from dockstack.deploy.configuration.clients import clouds_yaml

pytestmark = pytest.mark.unit

OURS = {"dockstack", "dockstack-demo"}


@pytest.fixture
def like_devstack(settings):
    return replace(settings, compatibility="devstack")


def read(text, tmp_path):
    """Read it as openstacksdk does."""
    path = tmp_path / "clouds.yaml"
    path.write_text(text)
    return OpenStackConfig(config_files=[str(path)], secure_files=[], vendor_files=[], load_envvars=False)


def test_suites_find_the_clouds_that_they_name_and_the_image_that_they_boot(like_devstack, tmp_path):
    found = read(clouds_yaml(like_devstack), tmp_path)
    assert set(found.get_cloud_names()) == OURS | set(compatibility.CLOUDS)
    assert found.get_extra_config("functional") == {"image_name": compatibility.IMAGE}
    for name, (user, project) in compatibility.CLOUDS.items():
        auth = found.get_one(name).config["auth"]
        assert (auth["username"], auth["password"]) == (user, f"secret-{user}_password")
        assert (auth.get("project_name", ""), auth.get("system_scope")) == (project, None if project else "all")


def test_clients_take_the_address_that_can_be_reached(settings, like_devstack, tmp_path):
    for each in (settings, like_devstack):
        found = read(clouds_yaml(each), tmp_path)
        assert all(found.get_one(name).force_ipv4 for name in found.get_cloud_names())


def test_without_it_there_are_our_clouds_alone(settings, tmp_path):
    text = clouds_yaml(settings)
    assert set(read(text, tmp_path).get_cloud_names()) == OURS
    assert "functional" not in yaml.safe_load(text)


def test_the_image_has_a_name_that_suites_recognise():
    assert compatibility.IMAGE.startswith("cirros-")
    assert compatibility.IMAGE.endswith("-disk")


def test_flavors_are_added_and_no_name_or_wish_is_there_twice(settings, like_devstack):
    before = [flavor["name"] for flavor in desired_state.flavors(settings)["flavors"]]
    after = [flavor["name"] for flavor in desired_state.flavors(like_devstack)["flavors"]]
    assert after[: len(before)] == before, "ours keep their sizes"
    assert {"m1.tiny", "m1.xlarge", "m1.micro", "cirros256", "ds4G"} <= set(after)
    assert len(after) == len(set(after))


def test_flavors_of_ones_own_are_made(settings):
    wanted = desired_state.flavors(replace(settings, flavors=("ci.small:1:512:2",)))["flavors"]
    assert wanted[-1] == {"name": "ci.small", "vcpus": 1, "ram": 512, "disk": 2}


def test_whoever_has_a_cloud_or_a_role_is_made_or_there_anyway(like_devstack):
    people = desired_state.people(like_devstack)
    known = {
        "user": {"admin", "demo", *people["users"]},
        "group": set(people["groups"]),
        "project": {"admin", *people["projects"]},
        "role": {"admin", "member", "reader", *people["roles"]},
    }
    for grant in people["grants"]:
        assert all(name in known[kind] for kind, name in grant.items() if kind in known), grant
    assert {user for user, _ in compatibility.CLOUDS.values()} <= known["user"]
    assert len(set(people["users"].values())) == len(people["users"]), "one password does not open another's door"
