# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import tarfile

import pytest

from dockstack.compute.guest.accounts import Account
from dockstack.compute.guest.injected_files import Entry, PlacementError, build_archive, place_file, place_key
from dockstack.compute.model import InjectedFile

pytestmark = pytest.mark.unit

APP = Account("app", 1000, 1001, "/srv/app")


def test_a_key_joins_those_that_are_there() -> None:
    directory, file = place_key(APP, "ssh-ed25519 NEW me\n", b"ssh-rsa OLD you")
    assert directory == Entry("srv/app/.ssh", 0o700, None, 1000, 1001)
    assert file == Entry("srv/app/.ssh/authorized_keys", 0o600, b"ssh-rsa OLD you\nssh-ed25519 NEW me\n", 1000, 1001)
    assert place_key(APP, "ssh-ed25519 NEW me", file.data or b"")[1] == file


@pytest.mark.parametrize(
    ("path", "placed"),
    [("/etc/motd", "etc/motd"), ("motd", "motd"), ("//a/./b/../c", "a/c"), ("../../../etc/x", "etc/x")],
)
def test_a_file_stays_below_the_root(path, placed) -> None:
    assert place_file(InjectedFile(path, b"x")) == Entry(placed, 0o644, b"x")


@pytest.mark.parametrize("path", ["", "/", "..", "a/", "a\0b", "/" + "x/" * 3000 + "y"])
def test_what_is_no_files_path(path) -> None:
    with pytest.raises(PlacementError, match="no path of a file"):
        place_file(InjectedFile(path, b"x"))


def test_the_archive() -> None:
    long = "d/" * 100 + "\u00e9"
    archive = build_archive([Entry("d", 0o700, None, 1, 2), Entry(long, 0o600, b"data", 3, 4)])
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        members = [(m.name, m.mode, m.isdir(), m.uid, m.gid, m.size) for m in found]
    assert members == [("d", 0o700, True, 1, 2, 0), (long, 0o600, False, 3, 4, 4)]
