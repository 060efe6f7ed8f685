# SPDX-License-Identifier: Apache-2.0
"""The API's part about manifests: pushing, pulling and deleting them, what refers to them, and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from dockstack.oci.distribution.manifests import MAX_BYTES, Pushed
from dockstack.oci.documents import INDEX_TYPE, ImageRejected
from dockstack.registry.exchange import PUSHES, bearer, digest_of, in_thread, page, small_body
from dockstack.registry.faults import DigestInvalid, ManifestInvalid, ManifestUnknown

if TYPE_CHECKING:
    from starlette.requests import Request

    from dockstack.registry.identity import Caller
    from dockstack.registry.service import Service


async def read(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Give a manifest."""
    name, reference = matched["name"], matched["reference"]
    if ":" in reference:
        digest_of(reference)
    caller = bearer(service, request, name, "pull")
    row = await in_thread(_seen, service, caller, name, reference)
    if row is None:
        row = await in_thread(service.adoption.adopt, caller, name, reference)
    if row is None:
        raise ManifestUnknown("There is no such image, or you may not see it.", "", reference)
    headers = {
        "Content-Type": row.media_type,
        "Content-Length": str(len(row.content)),
        "Docker-Content-Digest": row.digest,
        "ETag": f'"{row.digest}"',
    }
    return Response(b"" if request.method == "HEAD" else row.content, headers=headers)


async def write(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Take a manifest."""
    name, reference = matched["name"], matched["reference"]
    caller = bearer(service, request, name, "push")
    content = await small_body(request, MAX_BYTES)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    wanted = digest_of(reference) if ":" in reference else None
    try:
        pushed = Pushed.parse(content, media_type, wanted.algorithm if wanted else "sha256")
    except ImageRejected as error:
        raise ManifestInvalid(error.brief, error.resolution) from error
    if wanted and pushed.digest != wanted:
        raise DigestInvalid("The manifest has another digest.", "Push it by its own.", str(pushed.digest))
    await in_thread(_push, service, caller, name, pushed, "" if wanted else reference, limiter=PUSHES)
    headers = {
        "Location": f"/v2/{name}/manifests/{pushed.digest}",
        "Docker-Content-Digest": str(pushed.digest),
    }
    if pushed.subject:
        headers["OCI-Subject"] = pushed.subject
    return Response(status_code=201, headers=headers)


async def delete(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """Delete a manifest by its digest, with all its tags; or one tag."""
    name, reference = matched["name"], matched["reference"]
    caller = bearer(service, request, name, "delete")
    await in_thread(_delete, service, caller, name, reference)
    return Response(status_code=202)


async def referrers(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """List what says something of a manifest, whether that is here or not."""
    name, digest = matched["name"], digest_of(matched["digest"])
    caller = bearer(service, request, name, "pull")
    found = await in_thread(_referrers, service, caller, name, str(digest))
    headers = {"Content-Type": INDEX_TYPE}
    wanted = request.query_params.get("artifactType", "")
    if wanted:
        found = [one for one in found if one.get("artifactType") == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": found}
    return JSONResponse(document, headers=headers, media_type=INDEX_TYPE)


async def tags(service: Service, request: Request, matched: dict[str, str]) -> Response:
    """List the tags of a repository."""
    name = matched["name"]
    caller = bearer(service, request, name, "pull")
    some, last = page(await in_thread(_tags, service, caller, name), request)
    answer = JSONResponse({"name": name, "tags": some})
    if last:
        query = urlencode({"n": request.query_params["n"], "last": last})
        answer.headers["Link"] = f'</v2/{name}/tags/list?{query}>; rel="next"'
    return answer


def _seen(service: Service, caller: Caller, name: str, reference: str) -> Any:
    repositories = service.repositories
    repository = repositories.find(caller, name)
    row = None if repository is None else repositories.manifest(repository, reference)
    return row if repository is not None and row is not None and repositories.sees(caller, repository, row) else None


def _push(service: Service, caller: Caller, name: str, pushed: Pushed, tag: str) -> None:
    service.pushing.push(caller, service.repositories.own(caller, name), pushed, tag)


def _delete(service: Service, caller: Caller, name: str, reference: str) -> None:
    repository = service.repositories.own(caller, name)
    if ":" not in reference:
        if not service.pushing.untag(caller, repository, reference):
            raise ManifestUnknown("There is no such tag.", "", reference)
        return
    row = service.repositories.manifest(repository, str(digest_of(reference)))
    if row is None:
        raise ManifestUnknown("There is no such manifest.", "", reference)
    service.pushing.delete(caller, row)


def _referrers(service: Service, caller: Caller, name: str, digest: str) -> list[dict[str, Any]]:
    repository = service.repositories.find(caller, name)
    if repository is None:
        return []
    return service.repositories.referrers(caller, repository, digest)


def _tags(service: Service, caller: Caller, name: str) -> list[str]:
    return service.repositories.tags(caller, service.repositories.known(caller, name))
