# SPDX-License-Identifier: Apache-2.0
"""The base image's tree and archive, without the packages."""

from __future__ import annotations

import io
import subprocess
import tarfile

import pytest

from dockstack.deploy.images import base
from dockstack.errors import DockstackError
from dockstack.oci import Configuration, Digest, Platform

pytestmark = pytest.mark.unit


def image() -> base.BaseImage:
    layer = base.layer_tar(base.directories() | base.our_files())
    return base.BaseImage(Configuration.build(Platform("linux", "amd64"), [Digest.of(layer)], {}, "test"), layer)


def test_the_same_tree_gives_the_same_bytes():
    tree = base.directories() | base.our_files()
    assert base.layer_tar(tree) == base.layer_tar(dict(reversed(tree.items())))
    assert image().checksum() == image().checksum()


def test_modes_and_owners_are_right():
    with tarfile.open(fileobj=io.BytesIO(image().layer)) as archive:
        found = {member.name: (oct(member.mode), member.uid, member.mtime) for member in archive}
    assert found["sbin/init"] == ("0o755", 0, 0)
    assert found["etc/shadow"] == ("0o600", 0, 0)
    assert found["etc/passwd"] == ("0o644", 0, 0)
    assert found["tmp"] == ("0o1777", 0, 0)
    assert found["home/dockstack"] == ("0o755", 1000, 0)


def test_every_file_has_its_directory():
    tree = base.directories() | base.our_files()
    for path in tree:
        parent = path.rpartition("/")[0]
        assert not parent or parent in tree, path


def test_nobody_has_a_password():
    shadow = base.our_files()["etc/shadow"].data.decode()
    assert all(line.split(":")[1] == "*" for line in shadow.splitlines())


@pytest.mark.parametrize("name", ["sbin/init", "usr/lib/dockstack/metadata", "etc/udhcpc/default.script"])
def test_scripts_are_shell(name):
    script = base.our_files()[name].data
    assert script.startswith(b"#!/bin/sh\n")
    subprocess.run(["sh", "-n"], input=script, check=True)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    assert base.write(image(), tmp_path / "x.tar") == (tmp_path / "x.tar").stat().st_size
    with pytest.raises(DockstackError) as caught:
        base.write(image(), tmp_path / "none" / "x.tar")
    assert caught.value.resolution
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
