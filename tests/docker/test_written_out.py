# SPDX-License-Identifier: Apache-2.0
"""What a server has written is on its volumes: real file systems on real loop devices, seen from this process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from dockstack.compute.privileged import device_rules, loops, server_devices, volumes

SERVER, VOLUME = (str(uuid.uuid4()) for _ in range(2))
MIB = 1 << 20
CONTENT = b"written by a server"
NO_DEVICE = os.makedev(240, 7)  # of those that are left to experiments
MOUNTED_ELSEWHERE = """
import ctypes, sys
assert not ctypes.CDLL(None, use_errno=True).unshare(0x20000)
import subprocess
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", sys.argv[1], sys.argv[2]], check=True)
open(sys.argv[2] + "/file", "w").write(sys.argv[3])
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def mounted(*words):
    subprocess.run(["mount", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", words[-1]], check=True)  # a loop device lets go of its file a moment later


@pytest.fixture
def storage(tmp_path):
    """A file system with room for less than a volume of it may hold."""
    made = tmp_path / "storage"
    made.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(made)):
        yield made


@pytest.fixture
def device(storage, tmp_path, monkeypatch):
    """The volume of a server, this process, as a device of this host; the directory where it would be mounted."""
    monkeypatch.setattr(volumes, "VOLUMES_DIRECTORY", tmp_path / "held")
    monkeypatch.setattr(device_rules, "find_groups", lambda *_process: {})
    file, place = storage / "volume", tmp_path / "mounted"
    place.mkdir()
    file.touch()
    os.truncate(file, 64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", file], check=True)
    loop = loops.make(str(file), f"dockstack:{VOLUME}:{os.getpid():016x}")
    numbers = {"major": os.major(loop.device), "minor": os.minor(loop.device)}
    volumes._write(SERVER, VOLUME, {"volume": VOLUME, "device": "vdb", "read_only": False, **numbers})
    yield f"/dev/loop{loop.number}", file, str(place)
    loops.revoke(loop)


def write_out():
    server_devices.write_out(os.getpid(), "c" * 64, SERVER)


def test_also_what_is_written_to_the_device_itself(device):
    path, file, _ = device
    descriptor = os.open(path, os.O_RDWR)  # the last one who closes it would write it out
    try:
        os.pwrite(descriptor, CONTENT, 32 * MIB)
        assert CONTENT not in file.read_bytes()
        write_out()
        assert CONTENT in file.read_bytes()
    finally:
        os.close(descriptor)


def test_also_what_is_mounted_out_of_its_first_process_sight(device):
    path, file, place = device
    with subprocess.Popen(
        [sys.executable, "-c", MOUNTED_ELSEWHERE, path, place, CONTENT.decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"written\n"
        assert not server_devices._list_mounts(os.getpid(), volumes.number_of(volumes.read(SERVER, VOLUME)))
        write_out()
        assert CONTENT in file.read_bytes()


def test_what_storage_has_no_room_for_is_said_to_be_lost(device):
    path, _, place = device
    with mounted(path, place):
        Path(place, "big").write_bytes(os.urandom(20 * MIB))
        with pytest.raises(OSError, match=r"No space|Input/output"):
            write_out()


@pytest.mark.parametrize("put", [stat.S_IFBLK, stat.S_IFIFO, stat.S_IFLNK], ids=["device", "fifo", "link"])
def test_what_a_tenant_has_put_where_it_was_mounted_is_not_opened(device, tmp_path, monkeypatch, put):
    """It was unmounted since the mounts were listed."""
    path, file, place = device
    evil, node = tmp_path / "evil", tmp_path / "node"
    os.mknod(node, stat.S_IFBLK | 0o600, NO_DEVICE)
    if put == stat.S_IFLNK:
        evil.symlink_to(node)
    else:
        os.mknod(evil, put | 0o600, NO_DEVICE if put == stat.S_IFBLK else 0)
    monkeypatch.setattr(server_devices, "_list_mounts", lambda *_about: [str(evil), str(tmp_path), place])
    opened, real = [], os.open

    def see(what, *more, **options):
        opened.append(real(what, *more, **options))
        assert str(what) != str(evil) or stat.S_ISDIR(os.fstat(opened[-1]).st_mode)
        return opened[-1]

    monkeypatch.setattr(os, "open", see)
    synced, syncfs = [], server_devices.libc.syncfs
    monkeypatch.setattr(
        server_devices.libc,
        "syncfs",
        lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink())) or syncfs(descriptor),
    )
    with mounted(path, place):
        (tmp_path / "mounted/file").write_bytes(CONTENT)
        write_out()
    assert synced == [place], "other file systems are the host's, or another tenant's"
    assert CONTENT in file.read_bytes()


def test_several_at_once_open_a_device(device):
    """As of a volume that several servers have."""
    number = volumes.number_of(volumes.read(SERVER, VOLUME))
    with ThreadPoolExecutor(8) as threads:
        for descriptor in threads.map(lambda _: volumes.open_device(number, os.O_RDONLY), range(400)):
            assert os.fstat(descriptor).st_rdev == number
            os.close(descriptor)
