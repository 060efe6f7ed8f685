# SPDX-License-Identifier: Apache-2.0
"""The APIs, as a compute node's services will find them: with their accounts, region and interface."""

from __future__ import annotations

import logging
import socket
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keystoneauth1 import exceptions
from keystoneauth1.identity.generic import Password
from keystoneauth1.session import Session

from dockstack.deploy.join.endpoints import DEFAULT_PORTS
from dockstack.deploy.join.obstacles import MOST_CLOCK
from dockstack.deploy.join.probes import releases
from dockstack.deploy.join.probes.model import Failed, Refused, Skipped
from dockstack.deploy.wanted.cloud_keys import ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.wanted.cloud_document import CloudDocument

KNOCK, PATIENCE = 3, 10  # seconds
OVERHEADS = {"geneve": 58, "vxlan": 50}  # bytes that a tunnel over IPv4 adds to a packet
REGION = "Check identity.region and identity.interface; `openstack endpoint list` on the cloud has what there is."


def accounts(cloud: CloudDocument) -> str:
    """Get a token for each account.

    Raises:
        Failed: Keystone does not answer, or refuses one.
    """
    names = [name for name in ACCOUNTS if cloud.text(f"accounts.{name}.username")]
    for name in names:
        with _session(cloud, name) as session:
            _get(session.get_token, name)
    return f"Keystone gives a token for {', '.join(names)}."


def clock(cloud: CloudDocument) -> str:
    """Compare Keystone's clock, as a new token bears it, with this machine's.

    Raises:
        Failed: they are too far apart.
    """
    with _session(cloud, "nova") as session:
        began = time.time()
        token = _get(lambda: session.auth.get_access(session), "nova")
        ended = time.time()
    issued = token.issued.timestamp()
    # It bears whole seconds, and was issued at some time in between.
    apart = max(0.0, issued - ended) + min(0.0, issued + 1 - began)
    if abs(apart) > MOST_CLOCK:
        raise Failed(
            f"Keystone's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's.",
            "Tokens would expire early, and services count as down that are not.",
            "Have all machines keep time (chrony).",
        )
    return f"Keystone's clock is at most {abs(apart) + 1:.0f} s from this machine's."


def placement(cloud: CloudDocument) -> str:
    """List Placement's providers, as whoever reports one must be able to.

    Raises:
        Failed: there is no Placement, or it does not let the account.
    """
    found = _call(cloud, "placement", "placement", "/resource_providers")["resource_providers"]
    return f"Placement answers; it has {len(found)} providers."


def versions(cloud: CloudDocument) -> str:
    """Compare the nodes' release with the cloud's.

    Raises:
        Failed: the cloud must not have nodes of this release.
    """
    with _session(cloud, "nova") as session:
        found = _get(lambda: session.get_endpoint_data(**_filter(cloud, "compute")), "nova", "compute")
    if found is None:
        raise _absent("compute")
    if not found.max_microversion:
        raise Skipped("The compute API does not say which versions it knows.")
    release = cloud.text("release")
    known = releases.check(release, releases.microversion(found.max_microversion))
    return f"The cloud's compute API is of {known}; its nodes will be of {release}."


def needed_mtu(cloud: CloudDocument) -> int:
    """Return the MTU that the network below the tunnels needs for the cloud's largest network; 0 if it has none.

    Raises:
        Skipped: Neutron does not tell the account.
    """
    try:
        found = _call(cloud, "neutron", "network", "/v2.0/networks")["networks"]
    except Failed as failed:
        raise Skipped(f"What Neutron's networks need is not known: {failed.seen}") from failed
    kind = cloud.text("ovn.encap_type")
    tunnelled = [int(each.get("mtu") or 0) for each in found if each.get("provider:network_type") == kind]
    return max(tunnelled) + OVERHEADS[kind] if tunnelled else 0


def _call(cloud: CloudDocument, account: str, service: str, path: str) -> dict[str, Any]:
    with _session(cloud, account) as session:
        answer = _get(lambda: session.get(path, endpoint_filter=_filter(cloud, service)), account, service)
        return dict(answer.json())


def _filter(cloud: CloudDocument, service: str) -> dict[str, str]:
    names = {"interface": cloud.text("identity.interface"), "region_name": cloud.text("identity.region")}
    return {"service_type": service, **names}


@contextmanager
def _session(cloud: CloudDocument, account: str) -> Iterator[Session]:
    logging.getLogger("keystoneauth").setLevel(logging.ERROR)  # it warns of what we are about to say better
    _knock(cloud.text("identity.auth_url"))
    prefix, authority = f"accounts.{account}", cloud.text("tls.authority")
    login = Password(
        auth_url=cloud.text("identity.auth_url"),
        username=cloud.text(f"{prefix}.username"),
        password=cloud.text(f"{prefix}.password"),
        user_domain_name=cloud.text(f"{prefix}.user_domain"),
        project_name=cloud.text(f"{prefix}.project"),
        project_domain_name=cloud.text(f"{prefix}.project_domain"),
    )
    with tempfile.NamedTemporaryFile("w", prefix="dockstack-authority-") as file:
        file.write(authority)
        file.flush()
        yield Session(
            auth=login, verify=file.name if authority else True, timeout=PATIENCE, app_name="dockstack", redirect=False
        )


def _knock(url: str) -> None:
    """Ask whether anybody is there: the library would ask several times, and each time for long.

    Raises:
        Failed: nobody is.
    """
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0))
    try:
        socket.create_connection(place, KNOCK).close()
    except OSError as error:
        raise Failed(
            f"Keystone at {place[0]}:{place[1]} does not answer: {error.strerror or error}",
            "The node's services could not speak to the cloud's.",
            "Is it the address that nodes reach? See routes and firewalls.",
        ) from error


def _get(question: Any, account: str, service: str = "identity") -> Any:
    """Return an answer that a service gave an account.

    Raises:
        Failed: there is none, or it is a refusal.
    """
    try:
        return question()
    except exceptions.Unauthorized as error:
        raise Refused(
            f"Keystone refuses the account for {account}.",
            f"The node's services could not speak to the cloud's as {account}.",
            f"Check accounts.{account}.username, .password, .project and the domains.",
        ) from error
    except exceptions.Forbidden as error:
        if not error.request_id:  # which OpenStack's services put into each answer of theirs, and no proxy does
            raise Failed(
                f"What stands before {service} forbids this machine to ask it.",
                "The node's services could not speak to the cloud's, if it forbids nodes, too.",
                "Does a proxy let compute nodes in alone? Then this cannot be told from here.",
            ) from error
        raise Refused(
            f"The account for {account} may not do what a compute node does.",
            "The node would never be reported to Placement, and Nova place nothing on it.",
            "Give it the role service (and, before 2025.1, admin) in its project.",
        ) from error
    except exceptions.EndpointNotFound as error:
        raise _absent(service) from error
    except exceptions.SSLError as error:
        raise Failed(
            "The API's certificate is not of an authority that is trusted.",
            "The node's services would speak to none of the cloud's.",
            "Give its authority: dockstack cloud import --set-file tls.authority=ca.pem",
        ) from error
    except exceptions.ClientException as error:
        raise Failed(
            f"No answer: {str(error).partition(': HTTP')[0]}",  # what follows is a library's
            "The node's services could not speak to the cloud's.",
            "Is it the address that nodes reach? See routes and firewalls.",
        ) from error


def _absent(service: str) -> Refused:
    return Refused(
        f"The catalogue has no endpoint for {service} in this region, of this interface.",
        "The node's services would not find it.",
        REGION,
    )
