# SPDX-License-Identifier: Apache-2.0
"""The cloud's APIs with an administrator's account: plain calls and typed failures.

Nothing of dockstack's own stands between a caller and what an API answers, so that its documentation tells all.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors
from openstack.config import OpenStackConfig

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

FROM_ENVIRONMENT = "envvars"  # openstacksdk's name of the cloud that OS_AUTH_URL and the like describe
OUR_CLOUD = "dockstack"  # what `up` calls the cloud of its machine in clouds.yaml
VERSIONS = {"compute": "2.88", "placement": "1.39"}
RETRIES = 3  # of a connection that breaks, as APIs start anew
LIMIT = 120  # seconds for one answer
CURE = (
    "See whether the cloud's APIs answer with these credentials (openstack compute service list), and run the command "
    "again: it goes on from here."
)


class ApiError(DockstackError):
    """An API refused a call, or did not answer; ``status`` is HTTP's, 0 without an answer."""

    def __init__(self, brief: str, status: int, cure: str = CURE) -> None:
        """Keep the status, on which callers decide."""
        super().__init__(brief, cure)
        self.status = status


class NotThereError(ApiError):
    """What the call is about is not there."""


class ConflictError(ApiError):
    """What the call is about is in another state by now."""


class Api:
    """One service's API."""

    def __init__(self, client: adapter.Adapter, suffix: str = "") -> None:
        """Take a client; ``suffix`` is what paths begin with, where the catalogue may leave it out."""
        self._client = client
        self._suffix = suffix
        self._service = str(client.service_type)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        """Call it; return what the body of the answer holds.

        Raises:
            NotThereError: 404.
            ConflictError: 409.
            ApiError: any other refusal, or no answer.
        """
        try:
            answer = self._client.request(
                f"{self._prefix()}{path}",
                method,
                json=body,
                params=dict(query or {}),
                microversion=version or VERSIONS.get(self._service),
                connect_retries=RETRIES,
            )
        except auth_errors.HttpError as error:
            raise self._refusal(method, path, error) from error
        except auth_errors.ClientException as error:
            raise ApiError(f"The cloud's {self._service} API does not answer: {error}", 0) from error
        return dict(answer.json()) if answer.content else {}

    def pages(self, path: str, key: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return all that a list holds, which comes in pages."""
        found: list[dict[str, Any]] = []
        wanted, mark = dict(query), "id" if key == "servers" else "uuid"
        while True:
            answer = self.call("GET", path, query=wanted)
            page = answer[key]
            found += page
            if not page or not any(link.get("rel") == "next" for link in answer.get(f"{key}_links", ())):
                return found
            wanted["marker"] = str(page[-1][mark])

    def _prefix(self) -> str:
        if not self._suffix:
            return ""
        root = str(self._client.get_endpoint() or "").rstrip("/")
        return "" if root.endswith(self._suffix) else self._suffix

    def _refusal(self, method: str, path: str, error: auth_errors.HttpError) -> ApiError:
        status = int(error.http_status or 0)
        kind = {404: NotThereError, 409: ConflictError}.get(status, ApiError)
        return kind(f"The cloud's {self._service} API refuses {method} {path}: {error.message} ({status})", status)


@dataclass(frozen=True)
class Cloud:
    """All APIs that are needed of one cloud."""

    name: str
    compute: Api
    placement: Api
    network: Api
    image: Api


def choose(named: str | None, identity_url: str) -> str | None:
    """Return which cloud of clouds.yaml to administer; None if no credentials are given.

    Args:
        named: by the person: --os-cloud, or OS_CLOUD.
        identity_url: where the Keystone is of the cloud that nodes are to join. That of our own cloud of this machine
            is known to be an administrator's; it is taken without being named for that cloud only.
    """
    if named:
        return named
    if os.environ.get("OS_AUTH_URL"):
        return FROM_ENVIRONMENT
    return OUR_CLOUD if is_ours(identity_url) else None


def is_ours(identity_url: str) -> bool:
    """Tell whether a Keystone is that of the cloud that `dockstack up` made on this machine."""
    try:
        ours = OpenStackConfig().get_one(cloud=OUR_CLOUD).get_auth_args().get("auth_url", "")
    except (sdk_errors.ConfigException, OSError):
        return False
    return _place(ours) == _place(identity_url)


def _place(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port


def connect(name: str) -> Cloud:
    """Connect to a cloud of clouds.yaml, or of the environment, and prove that we are its administrator.

    Raises:
        DockstackError: there is no such cloud, it does not answer, or these are no administrator's credentials.
    """
    logging.getLogger("keystoneauth").setLevel(logging.ERROR)  # it warns of what we are about to say better
    try:
        region = OpenStackConfig().get_one(cloud=name, api_timeout=LIMIT)
        session = region.get_session()
        clients = {
            service: adapter.Adapter(
                session,
                service_type=service,
                interface=region.get_interface(service),
                region_name=region.get_region_name(service),
            )
            for service in ("compute", "placement", "network", "image")
        }
    except (sdk_errors.SDKException, auth_errors.ClientException, OSError) as error:
        raise DockstackError(
            f"The cloud {name!r} cannot be used: {error}", "Name one of clouds.yaml: --os-cloud, or OS_CLOUD."
        ) from error
    cloud = Cloud(
        name,
        Api(clients["compute"]),
        Api(clients["placement"]),
        Api(clients["network"], "/v2.0"),
        Api(clients["image"], "/v2"),
    )
    try:
        cloud.compute.call("GET", "/os-services", query={"binary": "nova-conductor"})
    except ApiError as error:
        if error.status == 403:  # noqa: PLR2004 - HTTP's Forbidden
            raise DockstackError(
                f"The credentials of the cloud {name!r} are no administrator's.",
                "Name an administrator's: --os-cloud, or OS_CLOUD.",
            ) from error
        raise
    return cloud
