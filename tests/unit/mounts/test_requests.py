# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os

import pytest

from dockstack.mounts import records, requests
from dockstack.mounts.requests import Refusal

pytestmark = pytest.mark.unit

SERVER = "11111111-2222-4333-8444-555555555555"
VOLUME = "aaaaaaaa-2222-4333-8444-555555555555"


def test_a_plain_mount_gets_no_setuid_programs_and_no_devices():
    wish = requests.read_mount(b"ext4", 0, b"")
    assert (wish.attributes, wish.options, wish.read_only) == (0x2 | 0x4, {"errors": "remount-ro"}, False)


def test_flags_are_honoured_and_the_old_magic_is_none():
    wish = requests.read_mount(b"ext3", 0xC0ED0000 | 1 | 8 | 1024 | 16, b"discard")
    assert wish.attributes == 0x1 | 0x2 | 0x4 | 0x8 | 0x10
    assert wish.read_only
    assert wish.options == {"errors": "remount-ro", "discard": None, "sync": None}


@pytest.mark.parametrize(
    ("kind", "flags", "data", "number"),
    [
        (b"ext4", 32, b"", errno.EPERM),  # remount
        (b"ext4", 4096, b"", errno.EPERM),  # bind
        (b"", 1 << 18, b"", errno.EPERM),  # private
        (b"tmpfs", 0, b"", errno.ENODEV),
        (b"xfs", 0, b"", errno.ENODEV),
        (b"overlay", 0, b"lowerdir=/", errno.ENODEV),
        (b"ext4", 0, b"journal_path=/dev/sda", errno.EINVAL),
        (b"ext4", 0, b"discard,errors=panic", errno.EINVAL),
        (b"ext4", 0, b"\xff", errno.EINVAL),
    ],
)
def test_anything_else_is_refused(kind, flags, data, number):
    with pytest.raises(Refusal) as refusal:
        requests.read_mount(kind, flags, data)
    assert refusal.value.number == number


def test_a_vfat_says_who_may_what_and_has_no_option_of_ext4():
    wish = requests.read_mount(b"vfat", 1, b"uid=1000,gid=0,umask=022,fmask=0111,discard")
    assert (wish.kind, wish.read_only) == ("vfat", True)
    masks = {"uid": "1000", "gid": "0", "umask": "022", "fmask": "0111"}
    assert wish.options == {"errors": "remount-ro", **masks, "discard": None}
    for word in (b"data=ordered", b"uid=-1", b"umask=9", b"codepage=437", b"iocharset=../x", b"usefree", b"acl"):
        with pytest.raises(Refusal):
            requests.read_mount(b"vfat", 0, word)
    with pytest.raises(Refusal):
        requests.read_mount(b"ext4", 0, b"uid=0")


def test_umount_may_be_lazy_and_nothing_more():
    assert requests.read_umount(0) == requests.read_umount(8) == requests.read_umount(1) == 0
    assert requests.read_umount(2) == 2
    with pytest.raises(Refusal):
        requests.read_umount(4)


@pytest.mark.parametrize("path", [b"/", b"", b"mnt", b"/proc", b"/proc/sys", b"/sys/fs", b"/dev", b"/dev/shm"])
def test_the_systems_own_places_are_refused(path):
    with pytest.raises(Refusal):
        requests.check_place(path)


@pytest.mark.parametrize("path", [b"/mnt", b"/mnt/vdb", b"/device", b"/processes/a"])
def test_other_places_are_not(path):
    requests.check_place(path)


def write(directory, name, said):
    (directory / SERVER).mkdir(exist_ok=True)
    (directory / SERVER / name).write_text(said if isinstance(said, str) else json.dumps(said))


def test_records_are_read_and_what_is_none_is_left_out(tmp_path):
    good = {"volume": VOLUME, "device": "vdb", "major": 7, "minor": 3, "read_only": True}
    write(tmp_path, f"{VOLUME}.json", good)
    write(tmp_path, "half.json", '{"volume":')
    write(tmp_path, "path.json", good | {"device": "../sda"})
    write(tmp_path, "list.json", [])
    assert records.attached(tmp_path, SERVER) == (records.Attached(VOLUME, "vdb", 7, 3, read_only=True),)


def test_a_server_that_is_none_has_nothing(tmp_path):
    assert records.attached(tmp_path, SERVER) == ()
    assert records.attached(tmp_path, f"../{tmp_path.name}{os.sep}x") == ()
