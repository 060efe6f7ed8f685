# SPDX-License-Identifier: Apache-2.0
"""The options that all OpenStack services share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings


def logging_options(settings: Settings) -> dict[str, str]:
    """Return the logging part of [DEFAULT]: to stderr, which the supervisor writes to the service's log."""
    return {"debug": str(settings.debug).lower(), "use_stderr": "true", "log_options": "false"}


def database_section(settings: Settings, user: str, database: str) -> dict[str, str]:
    """Return a section that names one database; the pool follows the few threads of a small cloud."""
    return {
        "connection": settings.database_url(user, database),
        "max_pool_size": "5",
        "max_overflow": "25",
        "connection_recycle_time": "3600",
    }


def account(settings: Settings, user: str) -> dict[str, str]:
    """Return keystoneauth's options for one service's account."""
    return {
        "auth_type": "password",
        "auth_url": settings.identity_url,
        "username": user,
        "password": settings.secret(f"{user}_password"),
        "user_domain_name": "Default",
        "project_name": "service",
        "project_domain_name": "Default",
        "region_name": settings.region,
        **({"cafile": settings.authority} if settings.tls else {}),
    }


def client_section(settings: Settings, user: str) -> dict[str, str]:
    """Return a section with which a service calls another one over the internal interface."""
    return {**account(settings, user), "valid_interfaces": "internal"}


def token_section(settings: Settings, user: str) -> dict[str, str]:
    """Return [keystone_authtoken]: tokens are checked once and remembered in memcached."""
    options = account(settings, user)
    del options["region_name"]
    return {
        **options,
        "www_authenticate_uri": settings.identity_url,
        "region_name": settings.region,
        "interface": "internal",
        "memcached_servers": f"unix:{settings.memcached_socket}",
        "service_token_roles": "service",
        "service_token_roles_required": "true",
    }


def key_manager_sections(settings: Settings, user: str) -> Ini:
    """Return the sections by which a service asks the key manager as whoever called it; nothing where there is none.

    Its own token goes with the caller's, which may have expired by then.
    """
    if not settings.key_manager:
        return {}
    trusted = {"verify_ssl_path": settings.authority, "cafile": settings.authority} if settings.tls else {}
    return {
        "key_manager": {"backend": "barbican"},
        "barbican": {
            "auth_endpoint": settings.identity_url,
            "barbican_endpoint_type": "internal",
            "barbican_region_name": settings.region,
            "send_service_user_token": "true",
            **trusted,
        },
        "barbican_service_user": account(settings, user),
    }


def cache_section(settings: Settings) -> dict[str, str]:
    """Return [cache] of oslo.cache."""
    return {
        "enabled": "true",
        "backend": "oslo_cache.memcache_pool",
        "memcache_servers": f"unix:{settings.memcached_socket}",
    }


def messaging_sections(settings: Settings) -> Ini:
    """Return the sections of oslo.messaging: notifications are off, as nothing consumes them."""
    return {
        "oslo_messaging_notifications": {"driver": "noop"},
        "oslo_messaging_rabbit": {
            "rabbit_quorum_queue": "false",
            "rabbit_transient_quorum_queue": "false",
            "amqp_durable_queues": "false",
            "heartbeat_timeout_threshold": "60",
            "rpc_conn_pool_size": "10",
            # Services start beside the message bus, which takes longest of all; by default, who did not find it at
            # once rests for up to half a minute before it looks again.
            "rabbit_interval_max": "2",
            **({"ssl": "true", "ssl_ca_file": settings.authority} if settings.tls else {}),
        },
    }
