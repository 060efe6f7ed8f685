# SPDX-License-Identifier: Apache-2.0
"""Bake: what becomes part of an archive, and that nothing else stays behind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dockstack.deploy import paths
from dockstack.deploy.baking import bake as story
from dockstack.deploy.baking.rehearsal import STATE
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.node import baked, baked_packages
from dockstack.deploy.node.own_package import lock_digest, source_hash
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A machine on which this version's `up` has run, as far as files tell."""
    openstack, cli = tmp_path / "opt/openstack", tmp_path / "opt/cli"
    markers = {
        "OPENSTACK_VENV": openstack,
        "CLI_VENV": cli,
        "LOCK_MARKER": openstack / ".dockstack-lock",
        "DRIVER_MARKER": openstack / ".dockstack-driver",
        "STATE_DIRECTORY": tmp_path / "deploy",
    }
    for name, path in markers.items():
        monkeypatch.setattr(paths, name, str(path))
    for place in (openstack, cli):
        place.mkdir(parents=True)
    markers["LOCK_MARKER"].write_text(f"{lock_digest('2026.2/openstack')}\n")
    for marker in (markers["DRIVER_MARKER"], cli / ".dockstack-wheel"):
        marker.write_text(f"{source_hash()}\n")
    monkeypatch.setattr(baked_packages, "collect", lambda names, place: place.mkdir() or (place / names[0]).touch())
    image = SimpleNamespace(write=lambda path: path.write_text("image"))
    monkeypatch.setattr(story.base, "build", lambda: image)
    return tmp_path


def rehearse(work):
    (work / STATE / "mariadb/nova").mkdir(parents=True)
    (work / STATE / "deploy/done").mkdir(parents=True)
    for record in ("migration-nova", "database-accounts", "database-created"):
        (work / STATE / "deploy/done" / record).write_text("versions")
    (work / "etc").mkdir()
    (work / "etc/secret").write_text("secret")


def node():
    return inventory.load(None, ["distribution=debian-12", "release=2026.2"]).local


def test_an_archive_has_all_parts_and_of_the_records_those_of_migrations(installed, tmp_path):
    made = story.bake(installed / "cloud.tar.zst", node(), rehearse, lambda _: None)
    names = {baked.PACKAGES, baked.DATABASES, baked.BASE_IMAGE, baked.OPENSTACK, baked.COMMAND_LINE}
    assert {part.name for part in made.parts} == names
    made.unpack(baked.DATABASES, tmp_path / "found")
    found = sorted(str(path.relative_to(tmp_path / "found")) for path in (tmp_path / "found").rglob("*"))
    assert found == ["done", "done/migration-nova", "mariadb", "mariadb/nova"]
    assert sorted(path.name for path in installed.glob("*cloud*")) == ["cloud.tar.zst"]


def test_ctrl_c_leaves_nothing_and_the_archive_before_as_it_was(installed):
    out = installed / "cloud.tar.zst"
    out.write_text("the one before")

    def interrupt(work):
        rehearse(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story.bake(out, node(), interrupt, lambda _: None)
    assert out.read_text() == "the one before"
    assert sorted(path.name for path in installed.glob("*cloud*")) == ["cloud.tar.zst"]


@pytest.mark.parametrize("marker", ["openstack/.dockstack-lock", "openstack/.dockstack-driver", "cli/.dockstack-wheel"])
@pytest.mark.parametrize("content", [None, "another"], ids=["none", "another"])
def test_another_version_is_not_baked(installed, marker, content):
    path = installed / "opt" / marker
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(DockstackError, match="not this version"):
        story.bake(installed / "out", node(), lambda _: pytest.fail("it began"), lambda _: None)


def test_packages_are_those_of_a_whole_cloud_with_an_engine():
    found = story.package_names(node(), DEBIAN_12)
    assert {"docker.io", "lxcfs", "rabbitmq-server", "mariadb-server-core", "openssh-client"} <= set(found)
