# SPDX-License-Identifier: Apache-2.0
"""What holder and broker tell each other: small messages, some with an open file."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

MESSAGE_BYTES = 64 << 10
_MOST_FILES = 8


def send(connection: socket.socket, message: dict[str, object], descriptor: int | None = None) -> None:
    """Send a message.

    Raises:
        OSError: the other side is gone, or takes nothing.
    """
    data = json.dumps(message).encode()
    socket.send_fds(connection, [data], [] if descriptor is None else [descriptor])


def receive(connection: socket.socket) -> tuple[dict[str, Any], int | None]:
    """Receive a message, and the file that came with it.

    Raises:
        OSError: the other side is gone.
    """
    data, descriptors = receive_bytes(connection)
    if not data:
        raise ConnectionResetError
    return dict(json.loads(data)), descriptors


def receive_bytes(connection: socket.socket) -> tuple[bytes, int | None]:
    """Receive what came at once, and the first file that came with it."""
    data, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, _MOST_FILES)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    return data, descriptors[0] if descriptors else None
