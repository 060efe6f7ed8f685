# SPDX-License-Identifier: Apache-2.0
"""A baked archive: what goes in comes out, and what is damaged, foreign or hostile changes nothing."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace

import pytest
import zstandard

from dockstack.deploy import paths
from dockstack.deploy.node import baked
from dockstack.deploy.node.baked import Archive, BakedError, Origin

pytestmark = pytest.mark.unit

ORIGIN = Origin("0123456789abcdef", "2026.2", "debian-12", "x86_64", "3.11")


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "BAKED", str(tmp_path / "var/baked"))
    monkeypatch.setattr(paths, "BAKED_NOTE", str(tmp_path / "var/note"))
    monkeypatch.setattr(paths, "LOCK_MARKER", str(tmp_path / "no-environment"))


@pytest.fixture
def archive(tmp_path):
    tree, image = tmp_path / "venv", tmp_path / "built"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/python").symlink_to("/usr/bin/python3")
    (tree / "bin/program").write_text("#!/bin/sh\n")
    (tree / "bin/program").chmod(0o755)
    (tree / "large").write_bytes(os.urandom(300_000))
    image.write_text("an image")
    return baked.write(
        tmp_path / "cloud.tar.zst", ORIGIN, {baked.OPENSTACK: tree, baked.BASE_IMAGE: image}, lambda _: None
    )


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


@pytest.mark.parametrize("name", ["dockstack", "release", "distribution", "architecture", "python"])
def test_one_for_something_else_is_refused_and_nothing_is_noted(archive, name):
    with pytest.raises(BakedError, match=f"was baked for {name}"):
        baked.accept(archive, replace(ORIGIN, **{name: "another"}))
    assert baked.noted() is None


def test_one_without_room_is_refused_and_nothing_is_noted(archive, monkeypatch):
    monkeypatch.setattr(baked, "SPARE_MB", 1 << 40)
    with pytest.raises(BakedError, match="MiB free"):
        baked.accept(archive, ORIGIN)
    assert baked.noted() is None


def test_later_runs_know_it_until_the_cloud_is_up(archive):
    baked.accept(archive, ORIGIN)
    assert baked.noted() == archive
    baked.forget()
    assert baked.noted() is None


def test_one_that_is_gone_counts_for_nothing(archive):
    baked.accept(archive, ORIGIN)
    archive.path.unlink()
    assert baked.noted() is None


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
