# SPDX-License-Identifier: Apache-2.0
"""What the API's parts share: who asks, how a stranger's bytes come in, how a blob goes out, what a refusal looks like.

Requests are awaited in one thread, so that a slow client costs little; whatever works (disk, database, hashing,
Keystone, Glance) does so in threads.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import checkpoint
from starlette.responses import JSONResponse, Response, StreamingResponse

from dockstack.oci.distribution.protocol import SERVICE, scope
from dockstack.oci.documents import Descriptor, Digest, ImageRejected
from dockstack.registry.blobs import CHUNK
from dockstack.registry.faults import (
    DigestInvalid,
    Fault,
    ManifestInvalid,
    PageInvalid,
    ScopeInsufficient,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from dockstack.registry.identity import Caller
    from dockstack.registry.service import Service

LOG = logging.getLogger(__name__)
PUSHES = CapacityLimiter(20)
_BEARER, _BASIC = "bearer ", "basic "


def refusal(error: Fault) -> JSONResponse:
    """Return what a client is told."""
    body = {"code": error.code, "message": str(error), "detail": error.details}
    return JSONResponse({"errors": [body]}, error.status)


def challenge(service: Service, error: Unauthorized, asked: str) -> JSONResponse:
    """Return where a client gets a token for what it asked for."""
    answer = refusal(error)
    said = f'Bearer realm="{service.configuration.url}/token",service="{SERVICE}"'
    said += f',scope="{asked}"' if asked else ""
    said += ',error="insufficient_scope"' if isinstance(error, ScopeInsufficient) else ""
    answer.headers["WWW-Authenticate"] = said
    return answer


def bearer(service: Service, request: Request, name: str, *actions: str, kind: str = "repository") -> Caller:
    """Return who asks, if their token allows one of some actions.

    Raises:
        Unauthorized: there is no token, or another one is needed.
    """
    said = request.headers.get("authorization", "")
    if not said.lower().startswith(_BEARER):
        raise Unauthorized("Log in first.", "docker login, with an application credential of Keystone's.")
    shown = service.tokens.read(said[len(_BEARER) :].strip())
    if name and not any(shown.may(action, name, kind) for action in actions):
        raise ScopeInsufficient("This token does not allow that.", f"Ask for one of {scope(name, *actions)}.")
    return shown.caller


def basic(request: Request) -> tuple[str, str] | None:
    """Return the user and the password that a request for a token shows; None if it shows none.

    Raises:
        Unauthorized: they cannot be read.
    """
    said = request.headers.get("authorization", "")
    if not said.lower().startswith(_BASIC):
        return None
    try:
        user, _, secret = base64.b64decode(said[len(_BASIC) :], validate=True).decode().partition(":")
    except (ValueError, binascii.Error) as error:
        raise Unauthorized("The credentials cannot be read.", "Send them as Basic.") from error
    return user, secret


def digest_of(text: str) -> Digest:
    """Read a digest.

    Raises:
        DigestInvalid: it is none.
    """
    try:
        return Digest.parse(text)
    except ImageRejected as error:
        raise DigestInvalid("That is no digest that is known here.", "Use sha256 or sha512.") from error


async def batches(request: Request) -> AsyncIterator[bytes]:
    """Read a body in pieces that are worth a thread's while."""
    waiting, size = [], 0
    async for chunk in request.stream():
        waiting.append(chunk)
        size += len(chunk)
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


async def small_body(request: Request, most: int) -> bytes:
    """Read a body whole.

    Raises:
        ManifestInvalid: it is too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ManifestInvalid(f"More than {most} bytes are not read.", "Push a smaller manifest.", "413")
    return bytes(body)


def file_answer(request: Request, path: Path, headers: dict[str, str]) -> Response:
    """Return a file, or the part of it that is asked for."""
    size = path.stat().st_size
    start, length = 0, size
    status = 200
    headers = {**headers, "Accept-Ranges": "bytes"}
    asked = request.headers.get("range", "")
    if asked.startswith("bytes=") and "," not in asked:
        found = _part(asked.removeprefix("bytes="), size)
        if found is None:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        if found != (-1, -1):
            start, length = found
            status = 206
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_read(path, start, length), status, headers)


def archive_answer(request: Request, size: int, parts: Iterator[bytes | Descriptor], path: Any) -> Response:
    """Return an archive."""
    headers = {"Content-Length": str(size), "Content-Type": "application/x-tar"}
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(_flat(parts, path), 200, headers)


async def in_thread(function: Any, *arguments: Any, limiter: CapacityLimiter | None = None) -> Any:
    """Work in a thread; what takes long has a limiter of its own, so that nobody else waits for a thread."""
    return await to_thread.run_sync(function, *arguments, limiter=limiter)


def page(values: Iterable[str], request: Request) -> tuple[list[str], str]:
    """Return the page of a sorted list that a request asks for, and the last of it where more follow; else "".

    Raises:
        PageInvalid: n is no number.
    """
    last, count = request.query_params.get("last", ""), request.query_params.get("n", "")
    left = [value for value in values if value > last]
    if not count:
        return left, ""
    if not count.isdecimal():
        raise PageInvalid("n is no number.", "Ask for a number.")
    some = left[: int(count)]
    return some, some[-1] if some and len(some) < len(left) else ""


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """Return start and length of a range; None if nothing of it is there; (-1, -1) if it is no range."""
    first, dash, last = asked.strip().partition("-")
    if not dash or not (first or last) or not (first or "0").isdecimal() or not (last or "0").isdecimal():
        return (-1, -1)
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length else None
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size:
        return None
    return (start, end - start + 1) if end >= start else (-1, -1)


async def _flat(parts: Iterator[bytes | Descriptor], path: Any) -> AsyncIterator[bytes | memoryview]:
    while (part := await in_thread(next, parts, None)) is not None:
        if isinstance(part, Descriptor):
            async for data in _read(path(part.digest), 0, part.size):
                yield data
        else:
            yield part


async def _read(path: Path, start: int, size: int) -> AsyncIterator[bytes | memoryview]:
    """Read a part of a file: at once what the kernel has in its memory; in threads what has to come from the disk.

    A thread for each piece would take as long as the piece.
    """
    descriptor, end = await in_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC), start + size
    try:
        while start < end:
            size = min(CHUNK, end - start)
            data = _at_hand(descriptor, start, size) or await in_thread(os.pread, descriptor, size, start)
            if not data:  # shorter than it was; who reads it misses the rest
                return
            start += len(data)
            yield data
            await checkpoint()  # a client who is as fast as this would have all of our time
    finally:
        os.close(descriptor)


def _at_hand(descriptor: int, start: int, size: int) -> bytes | memoryview:
    """Read what needs no waiting; nothing, too, where the file system cannot tell."""
    piece = bytearray(size)
    try:
        return memoryview(piece)[: os.preadv(descriptor, [piece], start, os.RWF_NOWAIT)]
    except OSError:
        return b""
