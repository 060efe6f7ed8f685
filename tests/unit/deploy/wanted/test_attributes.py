# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.wanted.attributes import (
    Attribute,
    AttributeRefusedError,
    Kind,
    SourceValues,
    command_line_values,
    resolve,
)
from dockstack.deploy.wanted.catalogue import CATALOGUE, GLANCE_CONTAINER_FORMATS

pytestmark = pytest.mark.unit

SAMPLE = (
    Attribute("ports.nova", Kind.PORT, 8774, "API port"),
    Attribute("docker.enable", Kind.BOOLEAN, True, "whether"),
    Attribute("docker.socket_mode", Kind.MODE, "660", "mode"),
    Attribute("formats", Kind.APPENDED, ["bare", "docker"], "formats"),
    Attribute("dns", Kind.LIST, [], "servers"),
    Attribute("hypervisor", Kind.STRING, "docker", "what", ("docker", "fake")),
    Attribute("workers", Kind.INTEGER, 1, "count", minimum=1),
    Attribute("net", Kind.CIDR, "10.0.0.0/24", "net"),
)


def one(**values):
    return resolve(SAMPLE, [SourceValues("test", values)])


def test_each_default_of_the_catalogue_is_of_its_own_kind():
    settings = resolve(CATALOGUE, []).settings()
    assert [setting.attribute.name for setting in settings] == [attribute.name for attribute in CATALOGUE]
    assert all(setting.source == "default" for setting in settings)


def test_every_attribute_says_something_about_itself():
    assert all(attribute.help.endswith((".", ")")) for attribute in CATALOGUE)


def test_later_layers_win_and_provenance_is_kept():
    sources = [
        SourceValues("role", {"ports.nova": 1}),
        SourceValues("file", {"ports.nova": 2}),
        SourceValues("node", {"ports.nova": 3}),
    ]
    assert resolve(SAMPLE, sources[:1]).setting("ports.nova").source == "role"
    last = resolve(SAMPLE, [*sources, command_line_values(["ports.nova=4"])]).setting("ports.nova")
    assert (last.value, last.source) == (4, "command line")


def test_appended_lists_grow_and_never_shrink():
    sources = [SourceValues("file", {"formats": ["qcow2", "bare"]}), SourceValues("node", {"formats": "x, y"})]
    setting = resolve(SAMPLE, sources).setting("formats")
    assert setting.value == ("bare", "docker", "qcow2", "x", "y")
    assert setting.source == "default + file + node"


def test_glance_keeps_its_own_formats():
    attributes = resolve(CATALOGUE, [SourceValues("file", {"image.container_formats": ["docker"]})])
    assert attributes.items("image.container_formats")[: len(GLANCE_CONTAINER_FORMATS)] == tuple(
        GLANCE_CONTAINER_FORMATS
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("ports.nvoa", "ports.nova"), ("docker.enabled", "docker.enable"), ("socket_mode", "docker.socket_mode")],
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong, right):
    with pytest.raises(AttributeRefusedError) as refused:
        one(**{wrong: 1})
    assert f"Did you mean {right}?" in refused.value.resolution
    assert "test" in refused.value.brief


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ports.nova", "8774"), ("ports.nova", 0), ("ports.nova", 65536), ("ports.nova", True),
        ("docker.enable", "yes"), ("docker.enable", 1), ("docker.socket_mode", "999"), ("docker.socket_mode", True),
        ("hypervisor", "xen"), ("workers", 0), ("workers", 1.5), ("net", "10.0.0.1/24"), ("net", "nonsense"),
        ("dns", {"a": 1}), ("dns", [["nested"]]), ("hypervisor", None),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused(name, value):
    with pytest.raises(AttributeRefusedError) as refused:
        one(**{name: value})
    assert name in refused.value.brief
    assert refused.value.resolution


@pytest.mark.parametrize(
    "flavor", ["ci.small:1:512", "ci small:1:512:2", "a:0:512:2", "a:1:0:2", "a:1:512:-1", ":1:2:3"]
)
def test_a_flavor_without_all_its_sizes_is_refused(flavor):
    with pytest.raises(AttributeRefusedError, match="NAME:VCPUS:MEMORY_MIB:DISK_GIB"):
        resolve(CATALOGUE, [SourceValues("file", {"compute.flavors": ["good:1:512:2", flavor]})])


def test_a_choice_names_the_nearest():
    with pytest.raises(AttributeRefusedError, match="Did you mean 'docker'"):
        one(hypervisor="dcoker")


@pytest.mark.parametrize("text", ["660", "0660", "0o660", "'660'"])
def test_a_mode_is_octal_however_it_is_written(text):
    mode = resolve(SAMPLE, [command_line_values([f"docker.socket_mode={text}"])])["docker.socket_mode"]
    assert mode == 0o660


def test_a_world_writable_socket_is_refused_with_the_reason():
    with pytest.raises(AttributeRefusedError, match="root on this machine"):
        resolve(CATALOGUE, [SourceValues("file", {"docker.socket_mode": 666})])


def test_a_quota_that_leaves_nothing_is_refused_with_the_reason():
    with pytest.raises(AttributeRefusedError, match="no image at all"):
        resolve(CATALOGUE, [SourceValues("file", {"image.quota_gb": 0})])
    assert resolve(CATALOGUE, [SourceValues("file", {"image.quota_gb": -1})]).number("image.quota_gb") == -1


@pytest.mark.parametrize("text", ["workers", "=3", "workers=[1"])
def test_a_broken_assignment_is_refused(text):
    with pytest.raises(AttributeRefusedError):
        command_line_values([text])


def test_values_are_shown_as_a_person_writes_them():
    shown = {setting.attribute.name: setting.attribute.show(setting.value) for setting in one().settings()}
    assert shown["docker.socket_mode"] == "660"
    assert shown["docker.enable"] == "true"
    assert shown["formats"] == "bare, docker"
