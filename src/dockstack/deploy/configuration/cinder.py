# SPDX-License-Identifier: Apache-2.0
"""Cinder: one backend, the files of a pool on the controller, and backups in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo, privilege
from dockstack.deploy.configuration.desired_state import VOLUME_TYPE

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

USER = "cinder"
DIRECTORY = "/etc/cinder"
CONF = f"{DIRECTORY}/cinder.conf"
PASTE = f"{DIRECTORY}/api-paste.ini"
STATE_DIRECTORY = "/var/lib/cinder"
QUOTAS = {
    "quota_volumes": "100",
    "quota_snapshots": "100",
    "quota_backups": "100",
    "quota_gigabytes": "10000",
    "quota_backup_gigabytes": "10000",
}
"""What each project may have; Cinder's own defaults are ten of each."""


def cinder_conf(settings: Settings) -> Ini:
    """Return cinder.conf, which all of Cinder's services read."""
    trusted = {"glance_ca_certificates_file": settings.authority} if settings.tls else {}
    return {
        "DEFAULT": {
            **oslo.logging_options(settings),
            "transport_url": settings.transport_url,
            "host": settings.hostname,
            "my_ip": settings.tunnel_address,
            "state_path": STATE_DIRECTORY,
            "auth_strategy": "keystone",
            "api_paste_config": PASTE,
            "enabled_backends": VOLUME_TYPE,
            "default_volume_type": VOLUME_TYPE,
            "glance_api_servers": settings.url(settings.ports.glance),
            **trusted,
            "backup_driver": "cinder.backup.drivers.posix.PosixBackupDriver",
            "backup_posix_path": settings.volume_backups,
            "backup_workers": "1",
            "backup_file_size": str(64 << 20),  # of a volume at a time; all of it is held in memory, 2 GB by default
            "periodic_fuzzy_delay": "0",
            **QUOTAS,
        },
        VOLUME_TYPE: {
            "volume_driver": "dockstack.volume.file.FileDriver",
            "volume_backend_name": VOLUME_TYPE,
            "file_pool": settings.volume_pool,
            # Files take what was written to them. Room that is left is what volumes that are there can still grow by.
            "reserved_percentage": "5",
        },
        "database": oslo.database_section(settings, USER, USER),
        "keystone_authtoken": oslo.token_section(settings, USER),
        "service_user": {**oslo.account(settings, USER), "send_service_user_token": "true"},
        # Whom it tells that a volume of a server has grown.
        "nova": {**oslo.account(settings, USER), "interface": "internal"},
        "coordination": {"backend_url": f"file://{STATE_DIRECTORY}/coordination"},
        "oslo_concurrency": {"lock_path": f"{STATE_DIRECTORY}/lock"},
        **oslo.key_manager_sections(settings, USER),
        **privilege.helper_sections(settings, USER),
        # By which it looks for an image's format.
        "cinder_sys_admin": privilege.unprivileged_helper(settings, USER),
        **oslo.messaging_sections(settings),
    }
