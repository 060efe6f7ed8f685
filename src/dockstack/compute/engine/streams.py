# SPDX-License-Identifier: Apache-2.0
"""What the engine streams: events, logs, the conversation with a command."""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from dockstack.compute.engine.faults import message_of, of_status, translated
from dockstack.compute.engine.records import Event, EventKind
from dockstack.names import NAME_PREFIX, RESCUE_LABEL, UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

EVENT_KINDS = {
    "start": EventKind.STARTED,
    "die": EventKind.STOPPED,
    "pause": EventKind.PAUSED,
    "unpause": EventKind.RESUMED,
}


class EventStream:
    """Events as they happen; ends when the engine goes away or somebody closes it."""

    def __init__(self, stream: Any) -> None:
        """Wrap the SDK's cancellable stream."""
        self._stream = stream

    def __iter__(self) -> Iterator[Event]:
        """Yield events of containers of ours."""
        for entry in self._stream:
            event = event_of(entry)
            if event is not None:
                yield event

    def close(self) -> None:
        """End the iteration, from any thread."""
        with translated("closing the event stream"):
            self._stream.close()


def converse(client: Any, execution: str, stdin: bytes, timeout: int, output_bytes: int) -> bytes:
    """Feed a command and collect what it says until it ends.

    Writing has its own thread: a command that answers before it has read all would block both ends.
    The SDK's own way reads the socket beneath http.client's buffer and can lose the first bytes.

    Raises:
        TimeoutError: it did not end in time.
    """
    url = f"{client.base_url}/v{client.api_version}/exec/{execution}/start"
    answer = client.post(url, json={"Tty": False, "Detach": False}, stream=True, timeout=timeout)
    if not answer.ok:
        raise of_status("running a command", answer.status_code, message_of(answer.content))
    connection = sockets.socket(fileno=os.dup(answer.raw.fileno()))
    connection.settimeout(timeout)
    deadline = time.monotonic() + timeout
    watchdog = threading.Timer(timeout, _hang_up, [connection])
    watchdog.start()
    threading.Thread(target=_write, args=(connection, stdin), daemon=True).start()
    try:
        output = _collect(answer.raw, output_bytes)
    finally:
        watchdog.cancel()
        _hang_up(connection)
        connection.close()
        answer.close()
    if time.monotonic() >= deadline:
        raise TimeoutError(f"the command did not end within {timeout} seconds")
    return output


def guarded(action: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass a stream on and translate what breaks it."""
    with translated(action):
        yield from chunks


def tail(stream: Iterable[bytes], limit: int, lines: int) -> tuple[bytes, bool]:
    """Keep the last ``limit`` bytes; also say whether more lines could not add any."""
    kept: deque[bytes] = deque()
    size = newlines = 0
    for data in stream:
        kept.append(data)
        size += len(data)
        newlines += data.count(b"\n")
        while kept and size - len(kept[0]) >= limit:
            size -= len(kept.popleft())
    tail = b"".join(kept)[-limit:] if limit > 0 else b""
    return tail, len(tail) >= limit or newlines < lines


def _collect(raw: Any, limit: int) -> bytes:
    """Read the engine's frames (8 bytes of header: stream, length) and keep the last ``limit`` bytes."""
    kept: deque[bytes] = deque()
    size = 0
    while len(header := raw.read(8)) == 8:  # noqa: PLR2004 - the header's length
        data = raw.read(struct.unpack(">4xL", header)[0])
        kept.append(data)
        size += len(data)
        while kept and size - len(kept[0]) >= limit:
            size -= len(kept.popleft())
    return b"".join(kept)[-limit:]


def _write(connection: sockets.socket, data: bytes) -> None:
    """Feed a command's input; one that ends without reading it all is its own business."""
    with contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(sockets.SHUT_WR)


def _hang_up(connection: sockets.socket) -> None:
    with contextlib.suppress(OSError):  # the other end was faster
        connection.shutdown(sockets.SHUT_RDWR)


def event_of(entry: Mapping[str, Any]) -> Event | None:
    """Read one event; None if its container only carries our labels (see Container.ours).

    None, too, of what runs in a rescued server's place: Nova leaves a rescued server as it is, and the end of the
    rescuing one, just before the server's own starts, it could take for the server's.
    """
    actor = entry.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    uuid = attributes.get(UUID_LABEL, "")
    kind = EVENT_KINDS.get(entry.get("Action", ""))
    if kind is None or not uuid or not attributes.get("name", "").startswith(NAME_PREFIX + uuid):
        return None
    if attributes.get(RESCUE_LABEL) == "true":
        return None
    return Event(uuid, kind, int(entry["timeNano"]), actor.get("ID", ""))
