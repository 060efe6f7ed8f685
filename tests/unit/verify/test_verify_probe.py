# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.verify.model import CheckFailed
from dockstack.verify.probe import (
    answers_tcp,
    checksum,
    echo_request,
    is_reply,
    stays_silent,
    wait_until,
)

pytestmark = pytest.mark.unit


def test_wait_until_returns_the_first_true_answer():
    answers = iter([None, 0, "yes"])
    assert wait_until(lambda: next(answers), 5, "it", every=0) == "yes"


def test_wait_until_says_what_did_not_happen():
    with pytest.raises(CheckFailed, match=r"a reply: not within 0 s\. Look\."):
        wait_until(lambda: None, 0, "a reply", "Look.")


def test_stays_silent_ends_at_the_first_answer():
    assert not stays_silent(lambda: True, 60)
    assert stays_silent(lambda: False, 0.01)


def test_answers_tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers_tcp("127.0.0.1", port, timeout=60)
    with socket.socket() as held:  # so that nobody else has the port either
        held.bind(("127.0.0.1", 0))
        assert not answers_tcp("127.0.0.1", held.getsockname()[1])


@given(st.binary(max_size=64))
def test_a_packet_with_its_checksum_sums_to_zero(payload):
    if len(payload) % 2 == 0:
        assert checksum(echo_request(1, 2, payload)) == 0


def test_is_reply_with_and_without_the_ip_header():
    reply = struct.pack("!BBHHH", 0, 0, 0, 9, 7) + b"payload"
    header = bytes([0x45]) + b"\0" * 19
    assert is_reply(reply, 7, b"payload")
    assert is_reply(header + reply, 7, b"payload")
    assert not is_reply(reply, 8, b"payload")
    assert not is_reply(reply, 7, b"another")
    assert not is_reply(b"", 7, b"")
