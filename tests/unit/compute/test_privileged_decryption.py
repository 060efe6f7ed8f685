# SPDX-License-Identifier: Apache-2.0
"""What of an encrypted volume is believed, and who waits while one is closed."""

from __future__ import annotations

import fcntl
import os
import struct

import pytest

from dockstack.compute import privileged
from dockstack.compute.privileged import decryption, volumes

pytestmark = pytest.mark.unit

MIB = 1 << 20
VOLUME, SERVER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
HOST = "0123456789abcdef"


def header(changes: dict[int, int]) -> bytes:
    """Return a header of LUKS 1 as cryptsetup makes it, with other numbers at some places."""
    made = bytearray(4096)
    struct.pack_into(">6sH32s32s32sII", made, 0, b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", 4096, 64)
    struct.pack_into(">I", made, 164, 100_000)
    for slot in range(8):
        state, rounds = (0x00AC71F3, 2_000_000) if slot == 0 else (0x0000DEAD, 0)
        struct.pack_into(">II32sII", made, 208 + slot * 48, state, rounds, b"salt", 8 + slot * 504, 4000)
    for place, number in changes.items():
        struct.pack_into(">I", made, place, number)
    return bytes(made)


@pytest.fixture
def prepared(tmp_path):
    def prepare(start: bytes, size: int = 32 * MIB) -> bytes:
        path = tmp_path / "volume"
        path.write_bytes(start)
        os.truncate(path, size)
        decryption._prepare(str(path), b"key", ("aes-xts-plain64", 512))
        return path.read_bytes()

    return prepare


@pytest.mark.parametrize("changes", [{}, {212: 20_000_000}, {256: 0x00AC71F3, 260: 2_000_000}])
def test_a_header_of_somebody_else_stays_as_it_is(prepared, changes):
    assert prepared(header(changes))[:4096] == header(changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({108: 1 << 30}, "key"),
        ({108: 0}, "key"),
        ({104: 1 << 20}, "room"),
        ({104: 0}, "room"),
        ({104: 504}, "slot 0"),
        ({164: 0xFFFFFFFF}, "rounds"),
        ({212: 0xFFFFFFFF}, "rounds"),
        (
            {208 + slot * 48 + place: value for slot in range(8) for place, value in ((0, 0x00AC71F3), (4, 9_000_000))},
            "r",
        ),
        ({248: 0xFFFFFFFF}, "slot 0"),
        ({248: 0}, "slot 0"),
        ({252: 0xFFFFFFFF}, "slot 0"),
        ({208 + 7 * 48: 1}, "slot 7"),
    ],
)
def test_a_header_that_asks_for_the_boundless_is_refused(prepared, changes, said):
    with pytest.raises(ValueError, match=said):
        prepared(header(changes))


def test_one_that_the_volume_has_no_room_for_is_refused(prepared):
    with pytest.raises(ValueError, match="not whole"):
        prepared(header({})[:512], 512)
    with pytest.raises(ValueError, match="room"):
        prepared(header({}), MIB)


@pytest.fixture
def closing(tmp_path, monkeypatch):
    """A volume that is open; yields the closings of it, each with whether others could look at records meanwhile."""
    closed = []
    monkeypatch.setattr(volumes, "VOLUMES_DIRECTORY", tmp_path / "held")
    monkeypatch.setattr(decryption, "DECRYPTED_DIRECTORY", tmp_path / "open")
    (tmp_path / "open" / VOLUME).mkdir(parents=True)
    (tmp_path / "held").mkdir()

    def clear(directory):
        records = os.open(tmp_path / "held/.locks", os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(records, fcntl.LOCK_EX | fcntl.LOCK_NB)
            closed.append((directory.name, "nobody waits"))
        except BlockingIOError:
            closed.append((directory.name, "others wait"))
        finally:
            os.close(records)

    monkeypatch.setattr(decryption, "_clear", clear)
    privileged.attaching.set_client_mode(False)
    yield closed
    privileged.attaching.set_client_mode(True)


def test_nobody_waits_for_a_volume_that_is_closed(closing):
    assert volumes.let_go(SERVER, VOLUME, HOST)
    volumes.close_left_open(VOLUME)
    assert closing == [(VOLUME, "nobody waits")] * 2


def test_who_looks_for_what_is_left_open_waits_for_nobody(closing, tmp_path):
    (tmp_path / "open" / VOLUME).mkdir(parents=True, exist_ok=True)
    with decryption._locked(tmp_path / "open" / VOLUME), pytest.raises(BlockingIOError):
        volumes.close_left_open(VOLUME)
    assert not closing


def test_calls_that_wait_for_storage_leave_threads_to_others():
    assert privileged.attaching.conf.thread_pool_size >= 64


def test_one_that_a_server_holds_by_now_stays_open(closing, tmp_path):
    record = tmp_path / "held" / SERVER / f"{VOLUME}.json"
    record.parent.mkdir()
    record.write_text("{}")
    volumes.close_left_open(VOLUME)
    assert not volumes.let_go("33333333-3333-4333-8333-333333333333", VOLUME, HOST)
    assert not closing


def test_one_that_becomes_a_device_is_not_closed_meanwhile(closing, tmp_path):
    plain = tmp_path / "open" / VOLUME / "plain"
    with decryption.kept(VOLUME, str(plain)):
        lock = os.open(tmp_path / "open" / f".{VOLUME}", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
    with decryption.kept(VOLUME, "/dev/sdb"):
        volumes.close_left_open(VOLUME)
    assert closing
