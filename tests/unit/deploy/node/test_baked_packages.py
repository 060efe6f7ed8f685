# SPDX-License-Identifier: Apache-2.0
"""A directory of packages that apt takes for a mirror, with the same files in them as before."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from dockstack.deploy.node import baked_packages

pytestmark = pytest.mark.unit


def run(*line):
    return subprocess.run(line, check=True, capture_output=True).stdout


def package(directory, name, compression, depends=""):
    """Build a package with one file, of a size that ar pads."""
    tree = directory / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / f"usr/share/{name}").mkdir(parents=True)
    (tree / f"usr/share/{name}/file").write_text("odd" * 777)
    text = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n of it\n"
    (tree / "DEBIAN/control").write_text(text + (f"Depends: {depends}\n" if depends else ""))
    made = directory / f"{name}_1_all.deb"
    run("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", str(tree), str(made))
    shutil.rmtree(tree)
    return made


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd"])
def test_it_holds_the_same_without_compression(tmp_path, compression):
    made = package(tmp_path, "one", compression)
    files, fields = run("dpkg-deb", "--fsys-tarfile", str(made)), run("dpkg-deb", "--field", str(made))
    plain = baked_packages.uncompressed(made.read_bytes())
    assert plain is not None
    made.write_bytes(plain)
    assert b"data.tar  " in plain
    assert run("dpkg-deb", "--fsys-tarfile", str(made)) == files
    assert run("dpkg-deb", "--field", str(made)) == fields


def test_one_that_is_packed_in_another_way_stays_as_it_is(tmp_path):
    made = package(tmp_path, "one", "none")
    content = made.read_bytes().replace(b"data.tar        ", b"data.tar.lzma   ")
    assert baked_packages.uncompressed(content) is None


def test_apt_finds_in_it_what_is_wanted_with_all_that_this_needs(tmp_path, monkeypatch):
    place = tmp_path / "mirror"
    place.mkdir()
    mirror = {"one": package(tmp_path, "one", "xz", "two"), "two": package(tmp_path, "two", "xz")}
    execute = baked_packages._run

    def downloaded(line):
        if line[0] != "apt-get":
            return execute(line)
        return "".join(str(shutil.copy(one, place)) for one in mirror.values())

    monkeypatch.setattr(baked_packages, "_run", downloaded)
    baked_packages.collect(["one"], place)
    status = tmp_path / "status"
    status.touch()
    subprocess.run(["sh", "-c", baked_packages.update_line(str(place))], check=True)
    line = baked_packages.install_line(["one"], str(place), simulate=True)
    asked = [line[0], "-o", f"Dir::State::status={status}", "-o", "Debug::NoLocking=1", *line[1:]]
    planned = run(*asked).decode().splitlines()
    assert [text.split()[1] for text in planned if text.startswith("Inst ")] == ["two", "one"]
