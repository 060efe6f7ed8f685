# SPDX-License-Identifier: Apache-2.0
"""Who asks, by Keystone's word."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

from dockstack.oci.distribution.protocol import TOKEN_USER
from dockstack.registry.faults import CloudSilent, Denied, Unauthorized

if TYPE_CHECKING:
    from dockstack.registry.configuration import Configuration

_WRITERS = frozenset({"admin", "manager", "member"})  # Glance has the last word, with the caller's own token
_CREDENTIAL = re.compile("[0-9a-f]{32}")
_SECONDS = 30


@dataclass(frozen=True)
class Caller:
    """Who asks; nobody known, if there is no token.

    Attributes:
        token: Keystone's.
        project_id: the project that the token is for.
        project: its name.
        writes: whether its roles let it push.
        expires: when the token ends, in seconds of the epoch.
    """

    token: str = field(default="", repr=False)
    project_id: str = ""
    project: str = ""
    writes: bool = False
    expires: float = 0.0

    def calls_its_own(self, namespace: str) -> bool:
        """Whether a repository's first word is the caller's project."""
        return bool(self.project_id) and namespace in (self.project_id, self.project.lower())


NOBODY = Caller()


class Identity:
    """Keystone, as the registry asks it."""

    def __init__(self, configuration: Configuration) -> None:
        """Ask nothing yet."""
        self._url = configuration.identity_url
        self._session = session.Session(verify=configuration.authority or True, timeout=_SECONDS)
        account = v3.Password(
            auth_url=self._url,
            username=configuration.username,
            password=configuration.password,
            user_domain_name="Default",
            project_name="service",
            project_domain_name="Default",
        )
        self._account = account
        self._service = session.Session(auth=account, verify=configuration.authority or True, timeout=_SECONDS)

    def service_token(self) -> str:
        """Return a token of the registry's own account.

        Raises:
            CloudSilent: Keystone gives none.
        """
        try:
            return str(self._service.get_token())
        except exceptions.ClientException as error:
            raise _silent(error) from error

    def is_administrator(self) -> bool:
        """Whether the registry's own account sees every project's images."""
        try:
            return "admin" in self._account.get_access(self._service).role_names
        except exceptions.ClientException as error:
            raise _silent(error) from error

    def log_in(self, user: str, secret: str) -> Caller:
        """Return who that is.

        Args:
            user: the id of an application credential; ``user@domain/project`` or ``user/project`` of the domain
                "Default"; or ``token``.
            secret: the credential's secret; the user's password; or a token of Keystone's.

        Raises:
            Unauthorized: Keystone does not know them so.
            CloudSilent: Keystone does not answer.
        """
        if user == TOKEN_USER:
            return self.known(secret)
        try:
            access = self._method(user, secret).get_access(self._session)
        except (exceptions.Unauthorized, exceptions.NotFound, exceptions.BadRequest) as error:
            raise Unauthorized(
                "Keystone does not take these credentials.",
                "Give an application credential's id and secret, or user@domain/project and a password.",
            ) from error
        except exceptions.ClientException as error:
            raise _silent(error) from error
        return _caller(access.auth_token, access.project_id, access.project_name, access.role_names, access.expires)

    def known(self, token: str) -> Caller:
        """Return whose token that is.

        Raises:
            Unauthorized: it is none, or its end has come.
            CloudSilent: Keystone does not answer.
        """
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        try:
            said = self._session.get(f"{self._url}/auth/tokens?nocatalog", headers=headers, authenticated=False)
            body: dict[str, Any] = said.json()["token"]
            project, roles = body.get("project") or {}, [role["name"] for role in body.get("roles", ())]
            expires = datetime.fromisoformat(body["expires_at"])
        except (exceptions.Unauthorized, exceptions.NotFound, exceptions.BadRequest, exceptions.Forbidden) as error:
            raise Unauthorized("Keystone does not take this token.", "Ask for a new one.") from error
        except (exceptions.ClientException, ValueError, KeyError, TypeError) as error:
            raise _silent(error) from error
        return _caller(token, project.get("id"), project.get("name"), roles, expires)

    def _method(self, user: str, secret: str) -> Any:
        if _CREDENTIAL.fullmatch(user):
            return v3.ApplicationCredential(
                self._url, application_credential_id=user, application_credential_secret=secret
            )
        account, _, project = user.rpartition("/")
        name, _, domain = (account or project).rpartition("@") if "@" in (account or project) else (account, "", "")
        if not account or not project or not name:
            raise Unauthorized(
                "The user's name does not say which project.", "Log in as user@domain/project, or as user/project."
            )
        domain = domain or "Default"
        return v3.Password(
            self._url,
            username=name,
            password=secret,
            user_domain_name=domain,
            project_name=project,
            project_domain_name=domain,
        )


def _caller(token: str, project_id: Any, project: Any, roles: Any, expires: datetime) -> Caller:
    if not project_id:
        raise Denied("The token is not for a project.", "Ask Keystone for one that is.")
    return Caller(
        token=token,
        project_id=str(project_id),
        project=str(project),
        writes=not _WRITERS.isdisjoint(roles),
        expires=min(expires.timestamp(), time.time() + 86400),
    )


def _silent(error: Exception) -> CloudSilent:
    return CloudSilent("Keystone does not answer as expected.", "Try again; see `dockstack status`.", str(error))
