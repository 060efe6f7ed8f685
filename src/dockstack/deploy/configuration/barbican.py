# SPDX-License-Identifier: Apache-2.0
"""Barbican: secrets in the database, encrypted with keys that a key of the cloud's own encrypts."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

USER = "barbican"
DIRECTORY = "/etc/barbican"
CONF = f"{DIRECTORY}/barbican.conf"
PASTE = f"{DIRECTORY}/barbican-api-paste.ini"
POLICY = f"{DIRECTORY}/policy.yaml"


def barbican_conf(settings: Settings) -> Ini:
    """Return barbican.conf; it holds the key that the projects' keys are encrypted with."""
    return {
        "DEFAULT": {**oslo.logging_options(settings), "host_href": settings.url(settings.ports.barbican)},
        "database": oslo.database_section(settings, USER, USER),
        "keystone_authtoken": oslo.token_section(settings, USER),
        "oslo_policy": {"policy_file": POLICY, "enforce_new_defaults": "true", "enforce_scope": "true"},
        "oslo_middleware": {"enable_proxy_headers_parsing": "true"},
        "secretstore": {"enabled_secretstore_plugins": "store_crypto"},
        "crypto": {"enabled_crypto_plugins": "simple_crypto"},
        "simple_crypto_plugin": {"kek": _key(settings.secret("key_manager_secret"))},
        "queue": {"enable": "false"},
        "keystone_notifications": {"enable": "false"},
    }


def policy() -> str:
    """Return policy.yaml, which is JSON: besides a project's members, services read keys.

    nova-compute needs that for servers that it starts by itself, after a reboot of its host, and for those that an
    administrator starts. It gives these accounts nothing that they could not give themselves: they are administrators.
    """
    return json.dumps({"secret:decrypt": _or_service(DECRYPT), "secret:get": _or_service(GET)}, indent=1) + "\n"


_MEMBERS = (
    "rule:secret_project_admin or (rule:secret_project_member and rule:secret_owner) or "
    "(rule:secret_project_member and rule:secret_is_not_private) or rule:secret_acl_read"
)
# barbican/common/policies/secrets.py
DECRYPT = f"True:%(enforce_new_defaults)s and ({_MEMBERS})"
GET = f"True:%(enforce_new_defaults)s and (role:admin or {_MEMBERS})"


def _or_service(rule: str) -> str:
    return f"({rule}) or role:service"


def _key(secret: str) -> str:
    """Make a secret of the cloud a Fernet key."""
    return base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).decode()
