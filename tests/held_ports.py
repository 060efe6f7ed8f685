# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that are told which one is theirs: nobody else is given one between its choice and their start."""

from __future__ import annotations

import socket


def hold_port(address: str = "127.0.0.1") -> socket.socket:
    """Return a socket that has a port and does not listen; as long as it is open, the kernel gives that to nobody.

    Who asks for this very port gets it all the same, again and again, if it sets SO_REUSEADDR as servers do.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((address, 0))
    return held


def port_of(held: socket.socket) -> int:
    """Return the number of a socket's port."""
    return int(held.getsockname()[1])
