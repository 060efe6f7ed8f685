# SPDX-License-Identifier: Apache-2.0
"""The API's part about blobs: sending them in one piece, in pieces, or by naming where they are; reading them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.responses import Response

from dockstack.registry.exchange import batches, bearer, digest_of, file_answer, in_thread
from dockstack.registry.faults import BlobUnknown, Fault, Unsupported
from dockstack.registry.uploads import require_start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from dockstack.oci.documents import Digest
    from dockstack.registry.identity import Caller
    from dockstack.registry.repositories import Repository
    from dockstack.registry.service import Service
    from dockstack.registry.uploads import Upload

_OCTETS = "application/octet-stream"
_ASK_AGAIN = 64 << 20  # bytes


async def start(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Begin an upload; or make a blob of this very body; or of one that is elsewhere and that the caller may read."""
    name = matched["name"]
    caller = bearer(service, request, name, "push")
    repository = await in_thread(service.repositories.own, caller, name)
    query = request.query_params
    if "mount" in query:
        digest = digest_of(query["mount"])
        if await in_thread(_mount, service, caller, repository, digest, query.get("from", "")):
            return _made(name, digest)
    upload_id = await in_thread(service.uploads.start, repository)
    if "digest" in query:
        digest = digest_of(query["digest"])
        await _take(service, request, repository, upload_id, digest)
        return _made(name, digest)
    return _accepted(name, upload_id, 0)


async def progress(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Tell how far an upload came."""
    repository = await _own(service, request, matched["name"])
    async with _working(service, repository, matched["upload"]) as upload:
        answer = _accepted(matched["name"], upload.id, upload.size)
    answer.status_code = 204
    return answer


async def append(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Add to an upload."""
    repository = await _own(service, request, matched["name"])
    async with _working(service, repository, matched["upload"]) as upload:
        await _receive(service, request, repository, upload)
        return _accepted(matched["name"], upload.id, upload.size)


async def finish(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Make a blob of an upload, and of what comes with this request."""
    repository = await _own(service, request, matched["name"])
    digest = digest_of(request.query_params.get("digest", ""))
    await _take(service, request, repository, matched["upload"], digest)
    return _made(matched["name"], digest)


async def cancel(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Forget an upload."""
    repository = await _own(service, request, matched["name"])
    async with _working(service, repository, matched["upload"]) as upload:
        await in_thread(service.uploads.forget, upload.id)
    return Response(status_code=204)


async def read(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Give a blob, or a part of it."""
    name, digest = matched["name"], digest_of(matched["digest"])
    caller = bearer(service, request, name, "pull")
    await in_thread(_require_seen, service, caller, name, digest)
    headers = {
        "Content-Type": _OCTETS,
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        "Cache-Control": "private, max-age=31536000",
    }
    return file_answer(request, service.store.path(digest), headers)


async def delete(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Have a repository lose a blob that no manifest of it holds."""
    name, digest = matched["name"], digest_of(matched["digest"])
    caller = bearer(service, request, name, "delete")
    await in_thread(_unlink, service, caller, name, digest)
    return Response(status_code=202, headers={"Docker-Content-Digest": str(digest)})


@asynccontextmanager
async def _working(service: Service, repository: Repository, upload_id: str) -> AsyncIterator[Upload]:
    upload = await in_thread(service.uploads.take, repository, upload_id)
    try:
        yield upload
    finally:
        service.uploads.release(upload)


async def _own(service: Service, request: Request, name: str) -> Repository:
    caller = bearer(service, request, name, "push")
    found: Repository = await in_thread(service.repositories.own, caller, name)
    return found


async def _take(service: Service, request: Request, repository: Repository, upload_id: str, digest: Digest) -> None:
    async with _working(service, repository, upload_id) as upload:
        await _receive(service, request, repository, upload)
        await in_thread(service.uploads.finish, repository, upload, digest)


async def _receive(service: Service, request: Request, repository: Repository, upload: Upload) -> None:
    """Add a request's body to an upload; what is allowed is asked again as it grows, for others grow beside it."""
    require_start(upload, request.headers.get("content-range", ""), request.headers.get("content-length", ""))
    await in_thread(service.uploads.allow, repository, upload)
    asked = upload.size
    async for data in batches(request):
        if upload.size - asked >= _ASK_AGAIN:
            await in_thread(service.uploads.allow, repository, upload)
            asked = upload.size
        await in_thread(upload.write, data)


def _mount(service: Service, caller: Caller, repository: Repository, digest: Digest, source: str) -> bool:
    """Have a repository get a blob that the caller may read elsewhere, or in any repository of the project."""
    repositories = service.repositories
    try:
        if source:
            there = repositories.find(caller, source)
            seen = there is not None and repositories.sees_blob(caller, there, str(digest))
        else:
            seen = repositories.has_blob(caller, str(digest))
    except Fault:
        return False
    return seen and repositories.gain(service.store, repository, digest)


def _require_seen(service: Service, caller: Caller, name: str, digest: Digest) -> None:
    repository = service.repositories.known(caller, name)
    if not service.repositories.sees_blob(caller, repository, str(digest)) or not service.store.has(digest):
        raise BlobUnknown("There is no such blob, or you may not see it.", "", str(digest))


def _unlink(service: Service, caller: Caller, name: str, digest: Digest) -> None:
    repository = service.repositories.own(caller, name)
    if service.repositories.holders(repository, [str(digest)]):
        raise Unsupported("A manifest of the repository holds this blob.", "Delete the manifest first.")
    if not service.repositories.lose(repository, digest):
        raise BlobUnknown("The repository has no such blob.", "", str(digest))


def _made(name: str, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return Response(status_code=201, headers=headers)


def _accepted(name: str, upload_id: str, size: int) -> Response:
    headers = {
        "Location": f"/v2/{name}/blobs/uploads/{upload_id}",
        "Docker-Upload-UUID": upload_id,
        "Range": f"0-{max(size - 1, 0)}",
    }
    return Response(status_code=202, headers=headers)
