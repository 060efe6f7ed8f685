# SPDX-License-Identifier: Apache-2.0
"""Both ends of a migration's channel, with a shell in the place of SSH."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import dockstack
from dockstack.compute.transfer import receiver
from dockstack.compute.transfer.channel import Channel, ChannelError, DamagedError, stream_chunks
from dockstack.compute.transfer.payload import Part, Payload
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

UUID = "0fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"
CHUNKS = [bytes([number]) * 70_000 for number in range(9)]
WHOLE = b"".join(CHUNKS)
DIGEST = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def connect(tmp_path, monkeypatch):
    """Make a channel whose SSH is a script; what the script does before it runs the receiver may break things."""
    monkeypatch.setenv("PYTHONPATH", str(Path(dockstack.__file__).parents[1]))
    monkeypatch.setattr("dockstack.compute.transfer.channel._PAUSE", 0)
    there = tmp_path / "there"
    there.mkdir()
    command = tmp_path / "receiver"
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m dockstack.compute.transfer.receiver --directory {there} "$@"\n'
    )
    command.chmod(0o755)

    def make(broken="", tries=2):
        client = tmp_path / "ssh"
        skip = 'while [ "${1#-}" != "$1" ]; do shift; done; shift'
        client.write_text(f'#!/bin/sh\n{skip}\n{broken}\nexec sh -c "$1"\n')
        client.chmod(0o755)
        return Channel("there.example", (str(client),), str(command), tries, tmp_path)

    return make


def arrived(tmp_path, part="layer"):
    path = tmp_path / "there" / UUID / part
    return path.read_bytes() if path.exists() else None


def test_a_part_arrives_whole(connect, tmp_path) -> None:
    sent = connect().send(UUID, "layer", stream_chunks(lambda: iter(CHUNKS)), resumable=True)
    assert sent == Part(len(WHOLE), DIGEST)
    assert arrived(tmp_path) == WHOLE
    assert (tmp_path / "there" / UUID / "layer").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("moving-*")) == []


def test_a_part_that_broke_off_goes_on_where_it_stopped(connect, tmp_path) -> None:
    mark = tmp_path / "mark"
    broken = f'if ! [ -e {mark} ]; then touch {mark}; head -c 100000 | sh -c "$1"; exit 255; fi'
    skipped = []

    def stream(fifo, skip):
        skipped.append(skip)
        return stream_chunks(lambda: iter(CHUNKS))(fifo, skip)

    assert connect(broken).send(UUID, "layer", stream, resumable=True).sha256 == DIGEST
    assert skipped == [0, 100_000]
    assert arrived(tmp_path) == WHOLE


def test_what_is_never_the_same_twice_begins_anew(connect, tmp_path) -> None:
    channel = connect()
    channel.send(UUID, "image", stream_chunks(lambda: iter([b"other"])), resumable=False)
    channel.send(UUID, "image", stream_chunks(lambda: iter(CHUNKS)), resumable=False)
    assert arrived(tmp_path, "image") == WHOLE


DAMAGE = 'tr "\\001" x | sh -c "$1"; exit'


def test_what_is_damaged_for_good_is_refused(connect) -> None:
    with pytest.raises(DamagedError, match="arrived damaged on host there"):
        connect(f'case "$1" in *layer*) {DAMAGE};; esac').send(
            UUID, "layer", stream_chunks(lambda: iter(CHUNKS)), resumable=True
        )


@pytest.mark.parametrize("resumable", [True, False])
def test_what_is_damaged_once_is_sent_anew_and_alone(connect, tmp_path, resumable) -> None:
    mark = tmp_path / "mark"
    channel = connect(f'case "$1" in *layer*) [ -e {mark} ] || {{ touch {mark}; {DAMAGE}; }};; esac')
    channel.send(UUID, "process", stream_chunks(lambda: iter([b"{}"])), resumable=False)
    skipped = []

    def stream(fifo, skip):
        skipped.append(skip)
        return stream_chunks(lambda: iter(CHUNKS))(fifo, skip)

    assert channel.send(UUID, "layer", stream, resumable=resumable) == Part(len(WHOLE), DIGEST)
    assert skipped == [0, 0], "what is damaged is no beginning of anything"
    assert arrived(tmp_path) == WHOLE
    assert arrived(tmp_path, "process") == b"{}"


def test_old_bytes_of_an_earlier_attempt_are_found_out_and_replaced(connect, tmp_path) -> None:
    (tmp_path / "there" / UUID).mkdir()
    (tmp_path / "there" / UUID / "layer").write_bytes(b"of yesterday")
    assert connect().send(UUID, "layer", stream_chunks(lambda: iter(CHUNKS)), resumable=True).sha256 == DIGEST
    assert arrived(tmp_path) == WHOLE


def test_only_what_is_all_there_is_sealed(connect, tmp_path) -> None:
    channel = connect()
    parts = {
        part: channel.send(UUID, part, stream_chunks(lambda: iter(CHUNKS)), resumable=False)
        for part in ("process", "layer")
    }
    payload = Payload("sha256:1", parts, "request")
    missing = replace(payload, parts=parts | {"image": Part(1, "0")})
    for wrong in (missing, replace(payload, parts={"layer": Part(1, DIGEST)})):
        with pytest.raises(ChannelError, match="is not here as it was sent"):
            channel.seal(UUID, wrong.encode())
        assert arrived(tmp_path, receiver.PAYLOAD) is None
    for nonsense in ("no JSON", "[1]", '[{"parts": {"layer": {}}}]', '{"parts": 1}'):
        with pytest.raises(ChannelError, match="in a form that this host knows"):
            channel.seal(UUID, nonsense)
    channel.seal(UUID, payload.encode())
    assert Payload.decode(arrived(tmp_path, receiver.PAYLOAD).decode()) == payload
    channel.drop(UUID)
    assert not (tmp_path / "there" / UUID).exists()


@pytest.mark.parametrize("broken", ["echo Permission denied >&2; exit 255", "sleep 0.1; exit 255", "exit 0", "echo no"])
def test_a_host_that_cannot_be_reached_is_named(connect, broken) -> None:
    channel = connect(broken)
    with pytest.raises(ChannelError, match=r"there\.example"):
        channel.send(UUID, "layer", stream_chunks(lambda: iter(CHUNKS)), resumable=True)
    if broken != "exit 0":
        with pytest.raises(ChannelError, match=r"there\.example"):
            channel.greet()


def test_what_ssh_says_reaches_the_operator(connect) -> None:
    with pytest.raises(ChannelError, match="Permission denied"):
        connect("echo Permission denied >&2; exit 255").drop(UUID)


def test_a_source_that_fails_is_no_fault_of_the_channel(connect) -> None:
    def stream(_fifo, _skip):
        raise LookupError

    with pytest.raises(LookupError):
        connect().send(UUID, "layer", stream, resumable=True)


def test_hosts_greet_each_other(connect, tmp_path) -> None:
    with pytest.raises(ChannelError, match="has not prepared it"):
        connect().greet()
    (tmp_path / "there" / receiver.GREETING).write_text(json.dumps({"host": "there"}))
    assert connect().greet() == {"host": "there"}


def test_dropping_may_be_repeated(connect, tmp_path) -> None:
    channel = connect()
    channel.send(UUID, "process", stream_chunks(lambda: iter([b"{}"])), resumable=False)
    channel.drop(UUID)
    channel.drop(UUID)
    assert arrived(tmp_path, "process") is None


def test_a_forced_command_takes_the_senders_words(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / receiver.GREETING).write_text("hello there")
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", "/somewhere/else/receiver hello")
    receiver.main(["--directory", str(tmp_path)])
    assert capsys.readouterr().out == "hello there\n"


@pytest.mark.parametrize(
    "words",
    [
        "seal x", f"seal {UUID} layer",
        "receive ../../etc layer", "receive x layer", f"receive {UUID} ../x", f"drop {UUID}/..", "sh", "receive",
        f"drop {UUID} layer more",
    ],
)  # fmt: skip
def test_the_receiver_does_nothing_else(tmp_path, monkeypatch, words) -> None:
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", f"receiver {words}")
    with pytest.raises(SystemExit) as ended:
        receiver.main(["--directory", str(tmp_path)])
    assert ended.value.code != 0
    assert list(tmp_path.iterdir()) == []


def test_two_senders_of_one_part_do_not_mix(connect, tmp_path) -> None:
    channel = connect(tries=1)

    def stream(fifo, skip):
        with pytest.raises(ChannelError, match="being received already"):
            channel.send(UUID, "layer", stream_chunks(lambda: iter(CHUNKS)), resumable=True)
        return stream_chunks(lambda: iter(CHUNKS))(fifo, skip)

    channel.send(UUID, "layer", stream, resumable=True)
    assert arrived(tmp_path) == WHOLE


def test_a_payload_survives_its_way() -> None:
    payload = Payload("sha256:1", {"layer": Part(2, "3")}, "once")
    assert Payload.decode(payload.encode()) == payload


def test_two_payloads_of_the_same_files_are_two() -> None:
    parts = {"layer": Part(2, "3"), "process": Part(1, "4")}
    payload = Payload("sha256:1", parts, "once")
    assert payload.digest == Payload("sha256:1", dict(reversed(parts.items())), "once").digest
    assert payload.digest != Payload("sha256:1", parts, "again").digest


@pytest.mark.parametrize("text", ["", "[]", "{}", '[{"type": "raw"}]', '[{"type": "docker", "version": 99}]', "null"])
def test_a_payload_of_another_driver_is_refused(text) -> None:
    with pytest.raises(DockstackError, match="a form that this host does not know"):
        Payload.decode(text)
