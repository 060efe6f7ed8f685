# SPDX-License-Identifier: Apache-2.0
"""What holder and broker give each other, with pipes in the place of seccomp's listeners."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dockstack.mounts import caller, exchange, holder, kernel
from dockstack.mounts.requests import Refusal

pytestmark = pytest.mark.unit

NOTIFICATION = struct.pack("=QIIiIQ6Q", 5, 77, 0, 165, 0xC000003E, 0, 1, 2, 3, 4, 5, 6)


def state(server: str = "uuid") -> bytes:
    metadata = json.dumps({"server": server, "policy": "kernel"})
    return json.dumps({"metadata": metadata, "state": {"id": "c", "pid": os.getpid()}}).encode()


def leave_listener(directory, text: bytes, descriptor: int) -> None:
    """Do what a runtime does."""
    with socket.socket(socket.AF_UNIX) as runtime:
        runtime.connect(str(directory / "seccomp.sock"))
        socket.send_fds(runtime, [text], [descriptor])


def connect(directory) -> socket.socket:
    broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker.connect(str(directory / holder.CONTROL))
    broker.settimeout(5)
    return broker


@pytest.fixture
def kept(tmp_path):
    """A holder with its socket."""
    kept = holder.Holder(tmp_path)
    kept._add_socket(holder._listen(tmp_path / "seccomp.sock", socket.SOCK_STREAM))
    return kept


def test_a_broker_gets_what_came_before_it(kept, tmp_path):
    read, write = os.pipe()
    leave_listener(tmp_path, state(), read)
    kept.turn(5)
    with connect(tmp_path) as broker:
        kept.turn(5)
        exchange.send(broker, {"ready": True})
        kept.turn(5)
        about, descriptor = exchange.receive(broker)
        assert about == {"socket": True}
        os.close(descriptor)
        about, descriptor = exchange.receive(broker)
    assert (about["server"], about["policy"]) == ("uuid", "kernel")
    assert about["namespace"] == Path("/proc/self/ns/mnt").stat().st_ino
    assert os.fstat(descriptor).st_ino == os.fstat(read).st_ino
    for one in (read, write, descriptor):
        os.close(one)


def test_a_holder_gets_back_what_the_broker_has(tmp_path):
    fresh = holder.Holder(tmp_path)
    read, write = os.pipe()
    about = {"listener": "key", "server": "uuid", "policy": "kernel", "namespace": 1}
    with connect(tmp_path) as broker:
        exchange.send(broker, about, read)
        exchange.send(broker, about, read)  # once more changes nothing
        for _ in range(3):
            fresh.turn(5)
        assert [listener.about for listener in fresh._listeners.values()] == [about]
    os.close(read)
    os.close(write)


@pytest.fixture
def listened(kept, tmp_path):
    """A holder with a listener, in which a call waits."""
    read, write = os.pipe()
    leave_listener(tmp_path, state(), read)
    kept.turn(5)
    (listener,) = kept._listeners.values()
    listener.waiting[5] = NOTIFICATION
    yield kept
    os.close(read)
    os.close(write)


def test_a_holder_takes_over_from_one_that_goes_on_alone(listened, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "is_waiting", lambda *_: True)
    with ThreadPoolExecutor(1) as pool:
        former = pool.submit(lambda: [listened.turn(30) for _ in range(2)])
        heir = holder.Holder(tmp_path)
        with pytest.raises(SystemExit):
            former.result(30)
    assert [(each.about["server"], each.waiting) for each in heir._listeners.values()] == [("uuid", {5: NOTIFICATION})]
    same = {os.fstat(each.fileno()).st_ino for one in (listened, heir) for each in one._sockets}
    assert (len(same), len(heir._sockets)) == (1, 1)
    with connect(tmp_path):
        heir.turn(5)
        assert heir._broker is not None


def test_one_whose_heir_dies_goes_on(listened, tmp_path):
    with connect(tmp_path) as heir:
        exchange.send(heir, {"heir": True})
    for _ in range(2):
        listened.turn(5)
    assert len(listened._listeners) == 1
    assert listened._broker is None


def test_a_socket_that_comes_twice_is_accepted_at_once(kept):
    """The second of the same would wait for a runtime that the first has taken in."""
    again = socket.socket(fileno=os.dup(kept._sockets[0].fileno()))
    kept._add_socket(again)
    assert len(kept._sockets) == 1
    assert again.fileno() == -1


def test_one_that_is_stopped_goes_on_as_long_as_servers_need_it(listened):
    assert stop(listened) == (0, b"alone")
    listened._listeners.clear()
    assert stop(listened) == (0, b"")


def stop(kept: holder.Holder) -> tuple[int, bytes]:
    """Stop a holder, in a process of its own; return its status, and what goes on of it says."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            kept._go_on_alone()
            os.write(write, b"alone")
        finally:
            os._exit(3)
    os.close(write)
    with open(read, "rb") as said:  # noqa: PTH123 - a descriptor
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.read()


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b'{"metadata": "x"}', state()[:-3]],
    ids=["nothing", "empty", "a list", "no state", "cut off"],
)
def test_nonsense_of_a_runtime_harms_nobody(kept, tmp_path, text):
    read, write = os.pipe()
    leave_listener(tmp_path, text, read)
    kept.turn(5)
    assert not kept._listeners
    os.close(read)
    os.close(write)


def test_a_silent_runtime_keeps_nobody_waiting(kept, tmp_path):
    read, write = os.pipe()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "seccomp.sock"))
        kept.turn(5)
        leave_listener(tmp_path, state(), read)
        kept.turn(5)
        assert [listener.about["server"] for listener in kept._listeners.values()] == ["uuid"]
        silent.sendall(state("late")[:5])
        kept.turn(5)
        silent.sendall(state("late")[5:])
    kept.turn(5)
    assert len(kept._listeners) == 1  # it gave no listener
    os.close(read)
    os.close(write)


def test_without_a_free_descriptor_nobody_is_taken_in(kept, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    read, write = os.pipe()
    leave_listener(tmp_path, state(), read)
    resource.setrlimit(resource.RLIMIT_NOFILE, (read, limits[1]))
    try:
        kept.turn(5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not kept._listeners
    kept.turn(5)
    assert len(kept._listeners) == 1
    os.close(read)
    os.close(write)


def test_a_listener_that_fails_ends_nothing(kept, tmp_path):
    read, write = os.pipe()
    leave_listener(tmp_path, state(), read)
    kept.turn(5)
    os.write(write, b"x")  # readable, but nothing of seccomp
    kept.turn(5)
    assert not kept._listeners
    os.close(read)
    os.close(write)


def test_a_notification_is_decoded():
    found = kernel.decode(NOTIFICATION)
    assert (found.cookie, found.pid, found.number, found.architecture) == (5, 77, 165, 0xC000003E)
    assert found.arguments == (1, 2, 3, 4, 5, 6)


def test_texts_of_a_process_are_read_to_their_end_and_no_further():
    text = ctypes.create_string_buffer(b"/mnt")
    endless = ctypes.create_string_buffer(b"x" * 9000)
    with caller.opened(os.getpid()) as this:
        assert caller.read_text(this, ctypes.addressof(text)) == b"/mnt"
        assert caller.read_text(this, 0) == b""
        with pytest.raises(Refusal):
            caller.read_text(this, 8)
        with pytest.raises(Refusal):
            caller.read_text(this, (1 << 64) - 1)
        with pytest.raises(Refusal):
            caller.read_text(this, ctypes.addressof(endless))


def test_another_mount_namespace_is_refused():
    with caller.opened(os.getpid()) as this:
        caller.check_root(this, Path("/proc/self/ns/mnt").stat().st_ino)
        with pytest.raises(Refusal):
            caller.check_root(this, 1)
