# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.model import Encryption
from dockstack.compute.volumes import encryption

pytestmark = pytest.mark.unit


def test_a_host_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(encryption, "_ROOTS_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(encryption, "_FUSE", tmp_path / "fuse")
    assert encryption.find_obstacle() == "it has no cryptsetup, qemu-storage-daemon, setpriv, setsid"
    for name in encryption.PROGRAMS:
        (tmp_path / name).touch(0o755)
    assert encryption.find_obstacle() == "its kernel has no FUSE"
    (tmp_path / "fuse").touch()
    assert not encryption.find_obstacle()


@pytest.mark.parametrize(
    ("given", "misfit"),
    [
        ({}, ""),
        ({"bits": 512}, ""),
        ({"provider": "luks2"}, "it is luks2"),
        ({"provider": "plain"}, "it is plain"),
        ({"provider": ""}, "of no known kind"),
        ({"cipher": "aes-cbc-essiv"}, "no cipher aes-cbc-essiv with 256 bits"),
        ({"bits": 128}, "with 128 bits"),
    ],
)
def test_what_no_host_opens_is_named(given, misfit):
    found = encryption.find_misfit(Encryption(b"key", **given))
    assert misfit in found
    assert bool(found) == bool(misfit)


def test_a_key_is_in_no_text():
    assert "hidden" not in repr(Encryption(b"hidden"))
