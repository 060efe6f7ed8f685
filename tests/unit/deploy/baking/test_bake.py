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
from dockstack.deploy.recipes import packages
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
    monkeypatch.setattr(story, "require_packages", lambda _: None)
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


def test_of_another_release_the_cure_is_to_name_it_and_not_to_upgrade_the_cloud(installed):
    (installed / "opt/openstack/.dockstack-lock").write_text(lock_digest("2026.1/openstack"))
    with pytest.raises(DockstackError) as caught:
        story.bake(installed / "out", node(), lambda _: pytest.fail("it began"), lambda _: None)
    assert "--set release=2026.1" in caught.value.resolution
    assert "Run `dockstack up`" not in caught.value.resolution


def test_a_package_that_was_removed_is_named_for_the_rehearsal_would_install_it(machine):
    here = "\n".join(f"{name} installed 1" for name in DEBIAN_12.packages_of(*packages.wanted(node()))[1:])
    with pytest.raises(DockstackError, match="not installed on this machine any more") as caught:
        story.require_packages(machine({"dpkg-query": here}))
    assert caught.value.brief.count(",") == 0


@pytest.mark.parametrize(
    "place", ["/etc", "/var/log", "/run/dockstack", "/opt/dockstack", "/var/lib/dockstack", "/usr"]
)
def test_a_place_that_the_rehearsal_does_not_see_is_refused(installed, place, monkeypatch):
    monkeypatch.setattr(story.Path, "is_dir", lambda _: True)
    with pytest.raises(DockstackError, match="not to be written to"):
        story.bake(story.Path(place, "cloud.tar.zst"), node(), lambda _: pytest.fail("it began"), lambda _: None)


def test_a_directory_that_is_not_there_is_refused(installed):
    with pytest.raises(DockstackError, match="There is no directory"):
        story.bake(installed / "no/out", node(), lambda _: pytest.fail("it began"), lambda _: None)


def test_what_a_killed_run_left_goes_and_files_of_similar_names_stay(installed):
    out = installed / "cloud.tar.zst"
    (installed / ".cloud.tar.zst.work-abc/etc").mkdir(parents=True)
    for name in ("cloud.tar.zst.parts", "cloud.tar.zst.partial"):
        (installed / name).write_text("a person's own")
    story.bake(out, node(), rehearse, lambda _: None)
    found = {path.name: path for path in installed.glob("*cloud*")}
    assert set(found) == {"cloud.tar.zst", "cloud.tar.zst.parts", "cloud.tar.zst.partial"}
    assert found["cloud.tar.zst.parts"].read_text() == "a person's own"
