# SPDX-License-Identifier: Apache-2.0
"""The registry's API: OCI Distribution 1.1, the tokens for it, and the archives that Glance reads."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dockstack.oci.distribution.protocol import TOKEN_USER, scope
from dockstack.registry import blob_api, manifest_api
from dockstack.registry.exchange import (
    archive_answer,
    basic,
    bearer,
    challenge,
    in_thread,
    page,
    refusal,
    small_body,
)
from dockstack.registry.faults import Broken, CloudSilent, Denied, Fault, NameUnknown, Unauthorized, Unsupported
from dockstack.registry.identity import NOBODY
from dockstack.registry.tokens import scopes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from dockstack.registry.service import Service

    Handler = Callable[[Service, Request, dict[str, str]], Awaitable[Response]]

LOG = logging.getLogger(__name__)
_MAX_FORM = 64 << 10
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"/v2/(?P<name>{_WORD}(?:/{_WORD})*)"
_DIGEST = r"(?P<digest>[A-Za-z0-9_+.-]+:[A-Za-z0-9=_-]+)"
_MAX_NAME = 255
_READING, _WRITING, _DELETING = ("pull",), ("push",), ("delete",)

# method -> (what its token has to allow, who answers)
_ROUTES: tuple[tuple[re.Pattern[str], dict[str, tuple[tuple[str, ...], Handler]]], ...] = (
    (re.compile(rf"{_NAME}/blobs/uploads/?"), {"POST": (_WRITING, blob_api.start)}),
    (
        re.compile(rf"{_NAME}/blobs/uploads/(?P<upload>[0-9a-f-]{{36}})"),
        {
            "GET": (_WRITING, blob_api.progress),
            "HEAD": (_WRITING, blob_api.progress),
            "PATCH": (_WRITING, blob_api.append),
            "PUT": (_WRITING, blob_api.finish),
            "DELETE": (_WRITING, blob_api.cancel),
        },
    ),
    (
        re.compile(rf"{_NAME}/blobs/{_DIGEST}"),
        {
            "GET": (_READING, blob_api.read),
            "HEAD": (_READING, blob_api.read),
            "DELETE": (_DELETING, blob_api.delete),
        },
    ),
    (
        re.compile(rf"{_NAME}/manifests/(?P<reference>{_DIGEST}|[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})"),
        {
            "GET": (_READING, manifest_api.read),
            "HEAD": (_READING, manifest_api.read),
            "PUT": (_WRITING, manifest_api.write),
            "DELETE": (_DELETING, manifest_api.delete),
        },
    ),
    (re.compile(rf"{_NAME}/referrers/{_DIGEST}"), {"GET": (_READING, manifest_api.referrers)}),
    (re.compile(rf"{_NAME}/tags/list"), {"GET": (_READING, manifest_api.tags)}),
)


def application(service: Service, lifespan: Any = None) -> Starlette:
    """Return the registry as an ASGI application.

    Args:
        service: what it serves.
        lifespan: what runs as long as it does.
    """

    async def here(request: Request) -> Response:
        return await _answered(service, request, "", lambda: _version(service, request))

    async def catalog(request: Request) -> Response:
        return await _answered(service, request, "registry:catalog:*", lambda: _catalog(service, request))

    async def token(request: Request) -> Response:
        return await _answered(service, request, "", lambda: _token(service, request))

    async def archive(request: Request) -> Response:
        return await _answered(service, request, "", lambda: _archive(service, request))

    async def repository(request: Request) -> Response:
        return await _dispatch(service, request)

    everything = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    routes = [
        Route("/v2/", here, methods=["GET"]),
        Route("/v2", here, methods=["GET"]),
        Route("/v2/_catalog", catalog, methods=["GET"]),
        Route("/token", token, methods=["GET", "POST"]),
        Route("/archives/{image_id}/{signature}", archive, methods=["GET"]),
        Route("/v2/{path:path}", repository, methods=everything),
        Route("/", _alive, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def _alive(request: Request) -> Response:
    del request
    return JSONResponse({"registry": "dockstack"})


async def _dispatch(service: Service, request: Request) -> Response:
    path = request.url.path
    for pattern, methods in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None or len(match["name"]) > _MAX_NAME:
            continue
        if request.method not in methods:
            return refusal(Unsupported(f"{request.method} is nothing for this.", "See the distribution specification."))
        actions, handler = methods[request.method]
        matched = match.groupdict()
        # Push is asked for from the start: some clients keep the first token that they get.
        asked = scope(matched["name"], "pull", "push", *(action for action in actions if action == "delete"))
        return await _answered(service, request, asked, partial(handler, service, request, matched))
    return refusal(NameUnknown("There is nothing under that name.", "A name is PROJECT/NAME, in lower case."))


async def _answered(
    service: Service, request: Request, asked: str, handler: Callable[[], Awaitable[Response]]
) -> Response:
    """Answer, or tell why not."""
    try:
        answer = await handler()
    except Unauthorized as error:
        answer = challenge(service, error, asked)
    except Fault as error:
        if isinstance(error, CloudSilent):
            LOG.warning("%s %s: %s %s", request.method, request.url.path, error, error.details)
        answer = refusal(error)
    except (InterfaceError, OperationalError, PoolExhausted) as error:
        LOG.warning("%s %s: the database: %s", request.method, request.url.path, str(error).partition("\n")[0])
        answer = refusal(CloudSilent("The registry's database does not answer.", "Try again."))
    except ClientDisconnect:
        answer = Response(status_code=499)
    except Exception:
        LOG.exception("%s %s", request.method, request.url.path)
        answer = refusal(Broken("The registry has a fault.", "Look at its log."))
    answer.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


async def _version(service: Service, request: Request) -> Response:
    bearer(service, request, "")
    return JSONResponse({})


async def _catalog(service: Service, request: Request) -> Response:
    caller = bearer(service, request, "catalog", "*", kind="registry")
    names, last = page(await in_thread(service.repositories.names, caller), request)
    answer = JSONResponse({"repositories": names})
    if last:
        query = urlencode({"n": request.query_params["n"], "last": last})
        answer.headers["Link"] = f'</v2/_catalog?{query}>; rel="next"'
    return answer


async def _token(service: Service, request: Request) -> Response:
    """Give a token; Docker asks with Basic, others with a form of OAuth 2."""
    if request.method == "GET":
        said = basic(request)
        asked = request.query_params.getlist("scope")
    else:
        form = parse_qs((await small_body(request, _MAX_FORM)).decode(errors="replace"))
        grant, asked = form.get("grant_type", [""])[0], form.get("scope", [])
        if grant == "password":
            said = form.get("username", [""])[0], form.get("password", [""])[0]
        elif grant == "refresh_token":
            said = TOKEN_USER, form.get("refresh_token", [""])[0]
        else:
            raise Unsupported(f"Grants of the type {grant[:40]!r} are not known.", "Use password.")
    caller = NOBODY if said is None else await in_thread(service.identity.log_in, *said)
    return JSONResponse(service.tokens.issue(caller, scopes(asked)), headers={"Cache-Control": "no-store"})


async def _archive(service: Service, request: Request) -> Response:
    """Give Glance, and nobody else, the bytes of an image."""
    image_id, signature = request.path_params["image_id"], request.path_params["signature"]
    if request.headers.get("x-forwarded-proto") or not service.tokens.signed(image_id, signature):
        raise Denied("That is for Glance.", "Download the image from Glance.")
    found = await in_thread(service.pushing.archive, image_id)
    if found is None:
        raise NameUnknown("There is no such image.", "")
    size, parts = found
    return archive_answer(request, size, parts, service.store.path)
