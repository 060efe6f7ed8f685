# SPDX-License-Identifier: Apache-2.0
"""A baked archive: what goes in comes out, and what is damaged, foreign or hostile changes nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest
import zstandard

from dockstack.deploy.node import baked
from dockstack.deploy.node.baked import Archive, BakedError, Origin
from own_mounts import needs_namespaces

pytestmark = pytest.mark.unit

ORIGIN = Origin("0123456789abcdef", "2026.2", "debian-12", "x86_64", "3.11")


@pytest.fixture
def archive(tmp_path):
    tree, image = tmp_path / "venv", tmp_path / "built"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/python").symlink_to("/usr/bin/python3")
    (tree / "bin/program").write_text("#!/bin/sh\n")
    (tree / "bin/program").chmod(0o755)
    (tree / "large").write_bytes(os.urandom(300_000))
    image.write_text("an image")
    trees, work = {baked.OPENSTACK: tree, baked.BASE_IMAGE: image}, tmp_path / "work"
    work.mkdir()
    return baked.write(tmp_path / "cloud.tar.zst", ORIGIN, trees, lambda _: None, work=work)


def rebaked(archive, data):
    """Return an archive whose only part has this content, with digests as they should be."""
    plain = archive.path.with_name("part.tar")
    plain.write_bytes(data)
    packed = zstandard.ZstdCompressor().compress(data)
    part = replace(archive.parts[0], offset=0, size=len(packed), sha256=baked.hashlib.sha256(packed).hexdigest())
    archive.path.write_bytes(packed)
    return Archive(archive.path, ORIGIN, (part,), 0)


def hostile(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, changes in members:
            info = tarfile.TarInfo(name)
            for key, value in changes.items():
                setattr(info, key, value)
            info.size = 4 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    return buffer.getvalue()


def test_what_goes_in_comes_out(archive, tmp_path):
    again = Archive.read(archive.path)
    again.verify()
    again.unpack(baked.OPENSTACK, tmp_path / "opt/openstack")
    again.unpack(baked.BASE_IMAGE, tmp_path / "opt/image")
    there = tmp_path / "opt/openstack"
    assert again.origin == ORIGIN
    assert str((there / "bin/python").readlink()) == "/usr/bin/python3"
    assert (there / "bin/program").stat().st_mode & 0o777 == 0o755
    assert (there / "large").read_bytes() == (tmp_path / "venv/large").read_bytes()
    assert (tmp_path / "opt/image").read_text() == "an image"
    assert sorted(path.name for path in (tmp_path / "opt").iterdir()) == ["image", "openstack"]


def test_what_a_killed_run_left_goes(archive, tmp_path):
    for left in ("opt/openstack/old", "opt/.openstack.baked/half"):
        (tmp_path / left).mkdir(parents=True)
    archive.unpack(baked.OPENSTACK, tmp_path / "opt/openstack")
    assert sorted(path.name for path in (tmp_path / "opt/openstack").iterdir()) == ["bin", "large"]
    assert not (tmp_path / "opt/.openstack.baked").exists()


@pytest.mark.parametrize("position", [-1, -200_000], ids=["last byte", "in the middle"])
def test_a_damaged_part_is_refused_and_leaves_nothing(archive, tmp_path, position):
    content = bytearray(archive.path.read_bytes())
    content[position] ^= 1
    archive.path.write_bytes(content)
    for check in (archive.verify, lambda: [archive.unpack(part.name, tmp_path / "opt/it") for part in archive.parts]):
        with pytest.raises(BakedError, match="is damaged"):
            check()
    assert not (tmp_path / "opt/.it.baked").exists()


def test_one_that_was_cut_off_is_refused(archive):
    content = archive.path.read_bytes()
    archive.path.write_bytes(content[:-10])
    with pytest.raises(BakedError, match="is damaged"):
        archive.verify()
    archive.path.write_bytes(content[:20])
    with pytest.raises(BakedError, match="is no archive"):
        Archive.read(archive.path)


@pytest.mark.parametrize("content", [b"", b"text", zstandard.compress(b"no tar")], ids=["empty", "text", "no tar"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BakedError, match="is no archive"):
        Archive.read(tmp_path / "file")


@pytest.mark.parametrize(
    "members",
    [
        [("openstack/../../escaped", {})],
        [("openstack", {"type": tarfile.SYMTYPE, "linkname": "{outside}"}), ("openstack/escaped", {})],
        [("openstack", {"type": tarfile.SYMTYPE, "linkname": "../.."}), ("openstack/escaped", {})],
        [("openstack/link", {"type": tarfile.LNKTYPE, "linkname": "../../precious"}), ("openstack/link", {})],
        [("openstack/device", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
    ],
    ids=["dots", "absolute link", "relative link", "hard link", "device"],
)
def test_a_hostile_part_reaches_nothing_outside(archive, tmp_path, members):
    outside, place = tmp_path / "outside", tmp_path / "opt/openstack"
    outside.mkdir()
    (tmp_path / "precious").write_text("good")
    told = [
        (name, {key: value.format(outside=outside) if key == "linkname" else value for key, value in changes.items()})
        for name, changes in members
    ]
    with pytest.raises((BakedError, OSError)):
        rebaked(archive, hostile(*told)).unpack(baked.OPENSTACK, place)
    assert not list(outside.iterdir())
    assert not list(tmp_path.rglob("escaped"))
    assert (tmp_path / "precious").read_text() == "good"
    assert not (place / "device").exists()


def test_tar_that_has_much_to_say_does_not_stand_still(archive, tmp_path):
    """A pipe takes 64 KiB: whoever reads it only at the end waits for ever."""
    members = [(f"openstack/{'x' * 100}{number}/../no", {}) for number in range(2000)]
    with pytest.raises(BakedError) as caught:
        rebaked(archive, hostile(*members)).unpack(baked.OPENSTACK, tmp_path / "opt/openstack")
    assert "could not be unpacked" in str(caught.value)
    assert len(caught.value.details) <= 2000


def test_a_clock_that_is_behind_is_no_matter(archive, tmp_path):
    future = {"type": tarfile.DIRTYPE, "mode": 0o755}, {"mtime": 4_000_000_000}
    ahead = rebaked(archive, hostile(("openstack", future[0]), ("openstack/file", future[1])))
    said = tmp_path / "said"
    with said.open("wb") as errors, ahead._open(ahead.parts[0]) as stream:
        line = [*baked._EXTRACT, baked._QUIET, f"--directory={tmp_path}"]
        assert baked._feed(line, stream, errors) == 0
    assert said.read_text() == ""


@needs_namespaces
@pytest.mark.parametrize("limit", ["size=128k", "nr_inodes=6"], ids=["bytes", "inodes"])
def test_a_full_disk_is_named_as_what_it_is_and_changes_nothing(archive, tmp_path, limit):
    program = f"""
from pathlib import Path
from dockstack.deploy.node.baked import Archive, BakedError
place = Path("{tmp_path}/small/openstack")
place.mkdir()
try:
    Archive.read(Path("{archive.path}")).unpack("openstack", place)
except BakedError as error:
    print(error, [path.name for path in place.parent.iterdir()])
"""
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o {limit} tmpfs {tmp_path}/small"
    line = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, program]
    told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "could not be unpacked" in told
    assert "is damaged" not in told
    assert "['openstack']" in told


def test_what_stood_there_stays_if_a_part_is_not_what_its_name_says(archive, tmp_path):
    place = tmp_path / "opt/openstack"
    (place / "old").mkdir(parents=True)
    with pytest.raises(BakedError, match="could not be unpacked"):
        rebaked(archive, hostile(("another", {}))).unpack(baked.OPENSTACK, place)
    assert [path.name for path in place.iterdir()] == ["old"]


def test_whenever_it_is_killed_there_is_the_old_one_or_the_new_one(archive, tmp_path):
    """A child unpacks again and again over what a cloud runs from, until it is killed."""
    place = tmp_path / "opt/openstack"
    program = f"""
from pathlib import Path
from dockstack.deploy.node.baked import Archive
one = Archive.read(Path("{archive.path}"))
while True:
    one.unpack("openstack", Path("{place}"))
"""
    archive.unpack(baked.OPENSTACK, place)
    for number in range(6):
        with subprocess.Popen([sys.executable, "-c", program]) as child:
            try:
                while not (place.parent / ".openstack.baked").exists():
                    assert child.poll() is None
                end = time.monotonic() + number * 0.037
                while time.monotonic() < end:
                    assert (place / "large").exists(), "there is a moment without"
                assert child.poll() is None
            finally:
                child.kill()
        assert sorted(path.name for path in place.iterdir()) == ["bin", "large"]
    archive.unpack(baked.OPENSTACK, place)
    assert [path.name for path in place.parent.iterdir()] == ["openstack"]


def test_an_archive_that_vanishes_meanwhile_is_said_to_be_gone(archive, tmp_path):
    archive.path.unlink()
    for use in (archive.verify, lambda: archive.unpack(baked.OPENSTACK, tmp_path / "opt/it")):
        with pytest.raises(BakedError, match="cannot be read"):
            use()
