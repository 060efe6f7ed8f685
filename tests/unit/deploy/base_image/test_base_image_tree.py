# SPDX-License-Identifier: Apache-2.0
"""The base image's tree and archive, without the packages."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from dockstack.deploy.base_image import base
from dockstack.errors import DockstackError
from dockstack.oci.documents import Platform

if TYPE_CHECKING:
    from dockstack.deploy.base_image.built import BuiltImage

pytestmark = pytest.mark.unit


def image() -> BuiltImage:
    return base.of_tree(base.directories() | base.our_files(), Platform("linux", "amd64"))


def test_the_same_tree_gives_the_same_bytes():
    tree = base.directories() | base.our_files()
    assert base.layer_tar(tree) == base.layer_tar(dict(reversed(tree.items())))
    assert image().checksum() == image().checksum()


def test_modes_and_owners_are_right():
    with tarfile.open(fileobj=io.BytesIO(b"".join(image().layer.open()))) as archive:
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


@pytest.mark.parametrize(
    ("name", "shell"),
    [
        ("sbin/init", "sh"),
        ("usr/lib/dockstack/metadata", "sh"),
        ("etc/udhcpc/default.script", "sh"),
        ("usr/bin/nc", "bash"),
    ],
)
def test_scripts_are_shell(name, shell):
    script = base.our_files()[name].data
    assert script.startswith(f"#!/bin/{shell}\n".encode())
    subprocess.run([shell, "-n"], input=script, check=True)


def run_nc(tmp_path, *words):
    """Run our nc with a netcat that prints what it was called with, and fails."""
    (tmp_path / "nc.traditional").write_text('#!/bin/sh\nprintf "[%s]" "$@"\nexit 1\n')
    (tmp_path / "nc.traditional").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = base.our_files()["usr/bin/nc"].data
    return subprocess.run(
        ["bash", "-s", "--", *words], input=script, env=environment, capture_output=True, check=False
    ).stdout.decode()


def test_nc_takes_the_options_of_both_netcats(tmp_path):
    assert run_nc(tmp_path, "-w", "1", "-u", "10.0.0.1", "80") == "[-w][1][-u][10.0.0.1][80]"
    assert run_nc(tmp_path, "-u", "-p", "80", "-lk", "-e", "echo", "a b") == "[-u][-p][80][-l][-c][exec 'echo' 'a b']"
    assert run_nc(tmp_path, "-l", "-k", "-p", "80") == "[-l][-p][80]"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    assert image().write(tmp_path / "x.tar") == (tmp_path / "x.tar").stat().st_size
    with pytest.raises(DockstackError) as caught:
        image().write(tmp_path / "none" / "x.tar")
    assert caught.value.resolution
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
