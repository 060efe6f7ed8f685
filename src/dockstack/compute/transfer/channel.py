# SPDX-License-Identifier: Apache-2.0
"""The sending end of a migration: SSH to the other host's receiver, as Nova's own migrations go.

Who may connect is SSH's own matter: the key of the compute service's user, the other host's key in known_hosts. A
transfer that breaks off goes on where it stopped, and counts only if both ends have the same checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from dockstack.compute.transfer import fifo
from dockstack.compute.transfer.payload import Part
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOG = logging.getLogger(__name__)

# Never ask, never trust an unknown host, and notice within a minute that nobody is there any more.
_OPTIONS = (
    "-T",
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=yes",
    "-oConnectTimeout=15",
    "-oServerAliveInterval=15",
    "-oServerAliveCountMax=4",
)
_PAUSE = 2  # seconds before another try; a broken connection is rarely back at once
_SAID_BYTES = 4096


class ChannelError(DockstackError):
    """The other host cannot be reached, or did not take what it was sent."""


class DamagedError(ChannelError):
    """What arrived is not what was sent."""


@dataclass(frozen=True)
class Channel:
    """A way to one other host.

    Attributes:
        address: where it is.
        command: the SSH client with its arguments.
        receiver: the receiver's path over there.
        tries: how often to begin again before giving up.
        workspace: a directory of ours alone.
    """

    address: str
    command: tuple[str, ...]
    receiver: str
    tries: int
    workspace: Path

    def greet(self) -> dict[str, Any]:
        """Ask the other host who it is.

        Raises:
            ChannelError: it cannot be reached or is not prepared.
        """
        said = self._ask("hello")
        try:
            return dict(json.loads(said))
        except ValueError as error:
            raise ChannelError(
                f"Host {self.address} answered something else than a compute host would: {said[:80]!r}.",
                "Look at what the SSH key of this host may run there; see docs/migration.md.",
            ) from error

    def drop(self, server_uuid: str) -> None:
        """Have the other host forget what it got of a server."""
        self._ask("drop", server_uuid)

    def send(self, server_uuid: str, part: str, stream: Callable[[str, int], Part], *, resumable: bool) -> Part:
        """Send one part of a server; one that broke off goes on where it stopped, one that is damaged begins anew.

        Args:
            server_uuid: whose.
            part: which.
            stream: writes the part into a FIFO, without the bytes that are over there already, and says what it was.
            resumable: the part is the same each time that it is streamed.

        Raises:
            ChannelError: it did not arrive, or not as it was sent.
            Exception: whatever ``stream`` raises but a broken pipe.
        """
        remaining, resume = self.tries, resumable
        while True:
            try:
                return self._send_once(server_uuid, part, stream, resume=resume)
            except ChannelError as error:
                remaining -= 1
                if remaining < 1:
                    raise
                resume = resumable and not isinstance(error, DamagedError)
                LOG.warning("Sending part %s broke off, trying again: %s", part, error, instance_uuid=server_uuid)
                time.sleep(_PAUSE)

    def seal(self, server_uuid: str, payload: str) -> None:
        """Have the other host check that all parts are there, and keep what they make.

        Raises:
            ChannelError: one is missing or damaged.
        """
        self._ask("seal", server_uuid, stdin=payload.encode())

    def _ask(self, *words: str, stdin: bytes = b"") -> str:
        action = f"asking host {self.address} to {words[0]}"
        try:
            done = subprocess.run(self._line(*words), input=stdin, capture_output=True, timeout=120, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _unreachable(action, str(error)) from error
        if done.returncode != 0:
            raise _unreachable(action, _text(done.stderr))
        return done.stdout.decode(errors="replace").strip()

    def _send_once(self, server_uuid: str, part: str, stream: Callable[[str, int], Part], *, resume: bool) -> Part:
        action = f"sending part {part} of server {server_uuid} to host {self.address}"
        line = self._line("receive", server_uuid, part, *([] if resume else ["anew"]))
        with tempfile.TemporaryFile() as errors, fifo.opened(self.workspace) as (path, reader, writer):
            with subprocess.Popen(line, stdin=reader, stdout=subprocess.PIPE, stderr=errors) as client:
                os.close(reader)
                assert client.stdout is not None  # noqa: S101 - a PIPE was asked for
                try:
                    have = _number(client.stdout.readline(), "have")
                    sent = stream(path, have) if have is not None else None
                except OSError as error:  # the reader went away
                    LOG.info("Streaming broke off: %s", error, instance_uuid=server_uuid)
                    sent = None
                finally:
                    os.close(writer)
                answer = client.stdout.readline().decode(errors="replace").split()
            errors.seek(0)
            said = _text(errors.read(_SAID_BYTES))
        if sent is None or len(answer) != 3 or answer[0] != "holds":  # noqa: PLR2004 - the word, the size, the digest
            raise _unreachable(action, said)
        if (int(answer[1]), answer[2]) != sent:
            raise DamagedError(
                f"Part {part} of server {server_uuid} arrived damaged on host {self.address}.",
                "Try again; if it happens again, look at the memory and disks of both hosts.",
                f"sent {sent}, arrived {answer}",
            )
        return sent

    def _line(self, *words: str) -> list[str]:
        return [*self.command, *_OPTIONS, self.address, shlex.join([self.receiver, *words])]


def stream_chunks(chunks: Callable[[], Iterator[bytes]]) -> Callable[[str, int], Part]:
    """Return what streams bytes that this process itself can read, for ``Channel.send``."""

    def stream(path: str, skip: int) -> Part:
        size, digest = 0, hashlib.sha256()
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # an error, not a wait, if the reader has gone
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in chunks():
                digest.update(chunk)
                unread = memoryview(chunk)[max(skip - size, 0) :]
                size += len(chunk)
                while unread:
                    unread = unread[file.write(unread) :]
        return Part(size, digest.hexdigest())

    return stream


def _number(line: bytes, word: str) -> int | None:
    found = line.decode(errors="replace").split()
    return int(found[1]) if len(found) == 2 and found[0] == word and found[1].isdigit() else None  # noqa: PLR2004


def _text(said: bytes) -> str:
    return said.decode(errors="replace").strip()


def _unreachable(action: str, said: str) -> ChannelError:
    return ChannelError(
        f"The SSH connection failed while {action}: {said or 'it ended without a word'}.",
        "Check that this host's compute user can log in there by key; see docs/migration.md.",
    )
