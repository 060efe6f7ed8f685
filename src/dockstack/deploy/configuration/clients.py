# SPDX-License-Identifier: Apache-2.0
"""How people and tools reach the cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import yaml

from dockstack.deploy.configuration import compatibility
from dockstack.deploy.configuration.desired_state import TENANT

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings

CLOUD = "dockstack"
TENANT_CLOUD = "dockstack-demo"


def openrc(settings: Settings) -> str:
    """Return openrc: sourced in a shell, it sets the administrator's credentials."""
    values = {
        "OS_AUTH_URL": settings.identity_url,
        "OS_USERNAME": "admin",
        "OS_PASSWORD": settings.secret("admin_password"),
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": settings.region,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_INTERFACE": "public",
        **({"OS_CACERT": settings.authority} if settings.tls else {}),
    }
    lines = "\n".join(f"export {name}='{value}'" for name, value in values.items())
    host = urlsplit(settings.identity_url).hostname or ""
    return (
        "# The administrator of the cloud that dockstack made: . /etc/dockstack/openrc\n"
        f"unset OS_CLOUD\n{lines}\n{_past_the_proxy(host)}"
    )


def _past_the_proxy(host: str) -> str:
    """Have clients in a shell go to the cloud itself, also where a proxy is set for all else."""
    names = ",".join(dict.fromkeys(("localhost", "127.0.0.1", host)))
    return (
        'if [ -n "${http_proxy:-}${https_proxy:-}${HTTP_PROXY:-}${HTTPS_PROXY:-}${all_proxy:-}${ALL_PROXY:-}" ]; then\n'
        f'    export no_proxy="${{no_proxy:-${{NO_PROXY:-}}}},{names}"\n'
        '    export no_proxy="${no_proxy#,}" NO_PROXY="${no_proxy#,}"\n'
        "fi\n"
    )


def clouds_yaml(settings: Settings) -> str:
    """Return clouds.yaml: the administrator's and the first tenant's cloud, and those that DevStack's users expect."""
    clouds = {CLOUD: _cloud(settings, "admin", "admin"), TENANT_CLOUD: _cloud(settings, TENANT, TENANT)}
    document: dict[str, object] = {"clouds": clouds}
    if settings.compatibility == compatibility.DEVSTACK:
        clouds |= {name: _cloud(settings, *account) for name, account in compatibility.CLOUDS.items()}
        document["functional"] = {"image_name": compatibility.IMAGE}  # openstacksdk's suite boots from it
    return yaml.safe_dump(document, sort_keys=True)


def _cloud(settings: Settings, user: str, project: str) -> dict[str, object]:
    """Return an entry: a user in a project, or, without one, with rights on the whole system."""
    scope = {"project_name": project, "project_domain_name": "Default"} if project else {"system_scope": "all"}
    return {
        "auth": {
            "auth_url": settings.identity_url,
            "username": user,
            "password": settings.secret(f"{user}_password"),
            "user_domain_name": "Default",
            **scope,
        },
        "region_name": settings.region,
        "identity_api_version": 3,
        "interface": "public",
        "force_ipv4": True,  # a server's IPv6 address is of the tenant's network, which nobody outside reaches
        **({"cacert": settings.authority} if settings.tls else {}),
    }
