# SPDX-License-Identifier: Apache-2.0
"""The registry's own tokens, as Docker's token specification has them, with the caller's identity sealed in them.

A client shows its token with each request. What it holds of Keystone's token is encrypted, so that whoever sees it in a
client's memory or a proxy can use it here alone, and for minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.fernet import Fernet, InvalidToken

from dockstack.oci.distribution.protocol import SERVICE
from dockstack.registry.faults import Unauthorized
from dockstack.registry.identity import NOBODY, Caller

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = 1800
_ALGORITHM = "HS256"
_ACTIONS = {"repository": frozenset({"pull", "push", "delete"}), "registry": frozenset({"*"})}
_SCOPE = re.compile(r"(?P<type>[a-z]+)(\([a-z0-9]*\))?:(?P<name>[^ ]+):(?P<actions>[a-z*,]*)")
MAX_SCOPES = 50


@dataclass(frozen=True)
class Access:
    """What a token lets its bearer do with one repository, or with the catalogue."""

    kind: str
    name: str
    actions: frozenset[str]


@dataclass(frozen=True)
class Bearer:
    """Who shows a token, and what it allows."""

    caller: Caller
    access: tuple[Access, ...]

    def may(self, action: str, name: str, kind: str = "repository") -> bool:
        """Whether the token allows that."""
        return any(one.kind == kind and one.name == name and action in one.actions for one in self.access)


class Tokens:
    """Makes tokens and reads them."""

    def __init__(self, secret: str) -> None:
        """Derive the keys.

        Args:
            secret: what nobody else knows.
        """
        self._key = _derived(secret, "tokens")
        self._archives = _derived(secret, "archives")
        self._seal = Fernet(base64.urlsafe_b64encode(_derived(secret, "seal")))

    def issue(self, caller: Caller, wanted: Iterable[Access]) -> dict[str, Any]:
        """Return the answer to a request for a token; it allows what the caller may of what is wanted."""
        granted = [Access(one.kind, one.name, one.actions & _allowed(caller, one)) for one in wanted]
        now = int(time.time())
        expires = min(now + SECONDS, int(caller.expires)) if caller.token else now + SECONDS
        claims = {
            "iss": SERVICE,
            "aud": SERVICE,
            "sub": caller.project_id,
            "iat": now,
            "nbf": now,
            "exp": expires,
            "jti": uuid.uuid4().hex,
            "access": [
                {"type": one.kind, "name": one.name, "actions": sorted(one.actions)} for one in granted if one.actions
            ],
            "seal": self._seal.encrypt(json.dumps(asdict(caller)).encode()).decode(),
        }
        token = jwt.encode(claims, self._key, algorithm=_ALGORITHM)
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return {"token": token, "access_token": token, "expires_in": max(expires - now, 1), "issued_at": issued}

    def read(self, token: str) -> Bearer:
        """Return who shows a token.

        Raises:
            Unauthorized: it is not ours, or its end has come.
        """
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM], audience=SERVICE, issuer=SERVICE)
            caller = Caller(**json.loads(self._seal.decrypt(claims["seal"].encode())))
            access = tuple(Access(one["type"], one["name"], frozenset(one["actions"])) for one in claims["access"])
        except (jwt.PyJWTError, InvalidToken, ValueError, KeyError, TypeError) as error:
            raise Unauthorized("The token is not valid any more, or never was.", "Log in again.") from error
        return Bearer(caller if caller.token else NOBODY, access)

    def sign(self, image_id: str) -> str:
        """Return what opens the archive of an image to Glance."""
        return hmac.new(self._archives, image_id.encode(), hashlib.sha256).hexdigest()

    def signed(self, image_id: str, signature: str) -> bool:
        """Whether that opens it."""
        return hmac.compare_digest(self.sign(image_id).encode(), signature.encode())


def scopes(texts: Iterable[str]) -> tuple[Access, ...]:
    """Read the scopes of a request: repeated, and several in one, as a mount has them; what is none is left out."""
    wanted = []
    for word in [word for text in texts for word in text.split(" ") if word][:MAX_SCOPES]:
        match = _SCOPE.fullmatch(word)
        if match:
            wanted.append(Access(match["type"], match["name"], frozenset(match["actions"].split(","))))
    return tuple(wanted)


def _allowed(caller: Caller, wanted: Access) -> frozenset[str]:
    """Everybody may ask for an image: Glance says, at each pull, whether they see it. One pushes to one's project."""
    actions = _ACTIONS.get(wanted.kind, frozenset())
    if wanted.kind == "registry":
        return actions if caller.token and wanted.name == "catalog" else frozenset()
    if caller.writes and caller.calls_its_own(wanted.name.partition("/")[0]):
        return actions
    return actions & {"pull"}


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()
