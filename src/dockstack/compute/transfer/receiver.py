# SPDX-License-Identifier: Apache-2.0
"""The receiving end of a migration: what the sender's SSH runs here, and all that its key should be allowed to run.

In ``authorized_keys`` of the compute service's user, on one line::

    restrict,command="/opt/dockstack/openstack/bin/dockstack-migration-receiver" ssh-ed25519 AAAA... nova@other-host

It keeps what it gets below one directory, a file for each part of a server, and knows nothing of Nova or of the engine.
When all parts are there, the sender says so ("seal"): only then does the server leave the other host.
Standard library only: it must be up at once.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIRECTORY = Path("/var/lib/dockstack/migrations")
GREETING = "host.json"  # what this host says of itself; its compute service writes it when it starts
PARTS = ("layer", "image", "process")
PAYLOAD = "payload"  # beside the parts: what they make, when all are there

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHUNK = 1 << 20
_PAYLOAD_BYTES = 1 << 16


class Refused(Exception):  # noqa: N818 - said to the sender
    """The sender asks for what is not to be had."""


def part_path(directory: Path, server_uuid: str, part: str) -> Path:
    """Return where a part of a server is kept.

    Raises:
        Refused: there is no such part, or that is no server.
    """
    if not _UUID.fullmatch(server_uuid) or part not in PARTS:
        raise Refused(f"{server_uuid!r} {part!r} is no part of a server")
    return directory / server_uuid / part


def greet(directory: Path) -> None:
    """Say what host this is.

    Raises:
        Refused: no compute service has started here yet.
    """
    try:
        print((directory / GREETING).read_text(encoding="utf-8"), flush=True)
    except FileNotFoundError:
        raise Refused("the compute service of this host has not prepared it for migrations") from None


def receive(directory: Path, server_uuid: str, part: str, mode: str = "go-on") -> None:
    """Take a part from standard input, after what is there already; say first how much that is, and at last what it is.

    Args:
        directory: where.
        server_uuid: whose.
        part: which.
        mode: "go-on", or "anew" to forget what is there.

    Raises:
        Refused: another receiver is at it.
    """
    path = part_path(directory, server_uuid, part)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"part {part!r} of server {server_uuid} is being received already") from None
        if mode == "anew":
            file.truncate()
        print(f"have {file.seek(0, os.SEEK_END)}", flush=True)
        shutil.copyfileobj(sys.stdin.buffer, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
        print(f"holds {file.tell()} {digest(file)}", flush=True)


def seal(directory: Path, server_uuid: str) -> None:
    """Check that all parts of a server are here as they were sent, and keep the payload, which comes by standard input.

    Each part's checksum was compared when it came, with what had reached the disk.

    Raises:
        Refused: a part is missing or of another size.
    """
    text = sys.stdin.buffer.read(_PAYLOAD_BYTES).decode(errors="replace")
    try:
        sizes = {str(part): int(said["size"]) for entry in json.loads(text) for part, said in entry["parts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused("the sender does not say what it sent in a form that this host knows") from None
    for part, size in sizes.items():
        path = part_path(directory, server_uuid, part)
        if not path.is_file() or path.stat().st_size != size:
            raise Refused(f"part {part!r} of server {server_uuid} is not here as it was sent")
    keep_payload(directory, server_uuid, text)
    print("sealed", flush=True)


def keep_payload(directory: Path, server_uuid: str, text: str) -> None:
    """Write down what the parts of a server make, for the case that its arrival is broken off; all of it or nothing."""
    parts = part_path(directory, server_uuid, PARTS[0]).parent
    parts.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = parts / f"{PAYLOAD}.new"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(parts / PAYLOAD)


def drop(directory: Path, server_uuid: str) -> None:
    """Forget a server; one that is not here is fine."""
    parts = part_path(directory, server_uuid, PARTS[0]).parent
    (parts / PAYLOAD).unlink(missing_ok=True)  # first: without it, what is left of a half drop means nothing
    shutil.rmtree(parts, ignore_errors=not parts.exists())


def digest(file: BinaryIO) -> str:
    """Return the SHA-256 of a whole file."""
    file.seek(0)
    sha256 = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        sha256.update(chunk)
    return sha256.hexdigest()


VERBS: dict[str, Callable[..., None]] = {"hello": greet, "receive": receive, "seal": seal, "drop": drop}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the sender asks for: the console script ``dockstack-migration-receiver``.

    Where the key in authorized_keys has a forced command, the sender's words come in SSH_ORIGINAL_COMMAND.
    """
    parser = argparse.ArgumentParser(description="Receive servers that migrate to this host; run by SSH.")
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        help='where to keep what arrives: "migrations" in [docker] state_directory (default: %(default)s)',
    )
    parser.add_argument("words", nargs="*", help="hello | receive SERVER PART [anew] | seal SERVER | drop SERVER")
    options = parser.parse_args(arguments)
    original = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    verb, *words = options.words or shlex.split(original)[1:] or ["hello"]
    if verb not in VERBS:
        parser.error(f"there is no verb {verb!r}")
    try:
        VERBS[verb](options.directory, *words)
    except (Refused, OSError, TypeError) as error:
        sys.exit(f"dockstack-migration-receiver: {error}")


if __name__ == "__main__":
    main()
