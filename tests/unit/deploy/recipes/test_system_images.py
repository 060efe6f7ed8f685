# SPDX-License-Identifier: Apache-2.0
"""System images that `up` makes: which, when, and when again."""

from __future__ import annotations

import pytest

from dockstack.deploy.base_image import base
from dockstack.deploy.base_image.glance import Imported
from dockstack.deploy.recipes import base_image
from dockstack.deploy.system_image import __main__ as program
from dockstack.deploy.system_image import recipe
from dockstack.deploy.wanted.attributes import AttributeRefusedError
from dockstack.deploy.wanted.catalogue import SYSTEM_SUITES
from dockstack.errors import DockstackError
from dockstack.oci.documents import Platform
from wanted_cloud import stages

pytestmark = pytest.mark.unit

HERE = {"hostname": "node1\nsystem"}
BOTH = "image.system=[bookworm, trixie]"


def made(one) -> list[str]:
    lines = (line for line in one.commands if "dockstack.deploy.system_image" in line)
    return [line.split("dockstack.deploy.system_image ")[1].split("'")[0] for line in lines]


def test_those_that_can_be_built_can_be_wanted():
    assert SYSTEM_SUITES == recipe.SUITES


def test_there_are_none_unless_somebody_wants_them():
    assert "system-images" not in stages()
    assert stages(BOTH)["system-images"].after == ("base-image",)


def test_another_suite_is_refused():
    with pytest.raises(AttributeRefusedError, match="sid is none of Debian's suites bookworm and trixie"):
        stages("image.system=[trixie, sid]")


def test_each_is_made_once_and_a_further_one_later(machine):
    one = machine(HERE, "image.system=[trixie]")
    base_image.system_images(one)
    base_image.system_images(one)
    assert made(one) == ["trixie"]
    later = machine(HERE, BOTH)
    base_image.system_images(later)
    assert made(later) == ["bookworm"]


def test_a_new_glance_gets_them_again_and_what_failed_is_made_by_the_next_run(machine):
    one = machine(HERE | {"dockstack.deploy.system_image": {"success": False}}, "image.system=[trixie]")
    with pytest.raises(DockstackError):
        base_image.system_images(one)
    again = machine(HERE, "image.system=[trixie]")
    base_image.system_images(again)
    again.manifest.set_done("database-created", "another")
    base_image.system_images(again)
    assert made(again) == ["trixie", "trixie"]


def test_it_is_everybodys(monkeypatch, capsys):
    uploads = []
    built = base.of_tree({"etc": base.Entry(0o755)}, Platform("linux", "amd64"))
    monkeypatch.setattr(program, "build", lambda *_: built)
    monkeypatch.setattr(program, "default_mirrors", lambda: None)
    monkeypatch.setattr(program.openstack, "connect", lambda: None)
    monkeypatch.setattr(
        program, "import_image", lambda _, what: uploads.append(what) or Imported("1", what.name, uploaded=True)
    )
    program.main("trixie")
    record = uploads[0].record()
    assert (uploads[0].name, record["visibility"], record["min_disk"]) == ("debian-trixie", "public", 1)
    assert capsys.readouterr().out == "debian-trixie 1 uploaded\n"


def test_a_build_that_fails_says_why(monkeypatch):
    def fail(*_):
        raise DockstackError("No mirror answers.", "See to it.", "E: the mirror")

    monkeypatch.setattr(program, "default_mirrors", lambda: None)
    monkeypatch.setattr(program, "build", fail)
    with pytest.raises(SystemExit, match=r"No mirror answers\.(?s:.*)E: the mirror"):
        program.main("trixie")
