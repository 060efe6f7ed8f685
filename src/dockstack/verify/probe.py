# SPDX-License-Identifier: Apache-2.0
"""Look at the cloud from outside: ping, TCP, and waiting with a deadline."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import TYPE_CHECKING, TypeVar

from dockstack.errors import DockstackError
from dockstack.verify.model import CheckFailed
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")

ECHO_REQUEST, ECHO_REPLY = 8, 0  # RFC 792
POLL_SECONDS = 0.25


def wait_until(
    probe: Callable[[], Found | None],
    seconds: float,
    what: str,
    resolution: str = "",
    every: float = POLL_SECONDS,
) -> Found:
    """Ask again and again until the probe's answer is true, and return it.

    Raises:
        CheckFailed: the time is over; ``what`` completes "... did not happen within".
    """
    found = wait_for(probe, seconds, every)
    if not found:
        raise CheckFailed(f"{what}: not within {seconds:g} s.", resolution)
    return found


def stays_silent(probe: Callable[[], bool], seconds: float) -> bool:
    """Whether a probe stays false for that long; the first true answer ends it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if probe():
            return False
    return True


def answers_tcp(address: str, port: int, timeout: float = 1.0) -> bool:
    """Whether a TCP connection is accepted."""
    try:
        with socket.create_connection((address, port), timeout=timeout):
            return True
    except OSError:
        return False


def answers_ping(address: str, timeout: float = 1.0) -> bool:
    """Whether an ICMP echo over IPv4 comes back; needs root or a group within net.ipv4.ping_group_range.

    Raises:
        DockstackError: this user may not send ICMP.
    """
    sequence = int(time.monotonic() * 1000) & 0xFFFF
    payload = os.urandom(16)
    with icmp_socket() as sock:
        sock.settimeout(timeout)
        deadline = time.monotonic() + timeout
        try:
            sock.sendto(echo_request(os.getpid() & 0xFFFF, sequence, payload), (address, 0))
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                packet, sender = sock.recvfrom(2048)
                if sender[0] == address and is_reply(packet, sequence, payload):
                    return True
        except OSError:  # time-out, or an unreachable that a router answered with
            return False
    return False


def icmp_socket() -> socket.socket:
    """Open an unprivileged ICMP socket if the kernel lets us, else a raw one."""
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    except PermissionError:
        pass
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError as error:
        raise DockstackError(
            "This user may not send ICMP echo requests (ping).",
            "Run as root, or `sysctl -w net.ipv4.ping_group_range='0 2147483647'`.",
        ) from error


def echo_request(identifier: int, sequence: int, payload: bytes) -> bytes:
    """Build an ICMP echo request (RFC 792)."""
    header = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identifier, sequence)
    return struct.pack("!BBHHH", ECHO_REQUEST, 0, checksum(header + payload), identifier, sequence) + payload


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_reply(packet: bytes, sequence: int, payload: bytes) -> bool:
    """Whether a packet answers our request; a raw socket also delivers the IPv4 header."""
    if packet and packet[0] >> 4 == 4:  # noqa: PLR2004 - IP version 4
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < 8:  # noqa: PLR2004 - an ICMP header
        return False
    kind, _, _, _, got = struct.unpack("!BBHHH", packet[:8])
    return kind == ECHO_REPLY and got == sequence and packet[8:] == payload
