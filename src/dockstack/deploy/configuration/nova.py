# SPDX-License-Identifier: Apache-2.0
"""Nova: one cell besides cell0; databases in a file that nova-compute never reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo, privilege
from dockstack.deploy.configuration.openvswitch import DATABASE_REMOTE
from dockstack.deploy.paths import CONSOLE_PAGE, VNC_PAGE

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

STATE_DIRECTORY = "/var/lib/nova"
API_PASTE_FILE = "/etc/nova/nova-api-paste.ini"
# Nova's own choice, and those that know the hints same_host and different_host.
FILTERS = (
    *("ComputeFilter", "ComputeCapabilitiesFilter", "ImagePropertiesFilter"),
    *("ServerGroupAntiAffinityFilter", "ServerGroupAffinityFilter"),
    *("SameHostFilter", "DifferentHostFilter"),
)
MAX_ATTEMPTS = 3  # hosts that Nova tries for one server; its own default


def nova_conf(settings: Settings) -> Ini:
    """Return nova.conf, which all Nova services read."""
    return {
        "DEFAULT": host_defaults(settings, settings.transport_url),
        "api": {"auth_strategy": "keystone"},
        "cache": oslo.cache_section(settings),
        "conductor": {"workers": str(settings.conductor_workers)},
        "scheduler": {
            "workers": str(settings.scheduler_workers),
            "discover_hosts_in_cells_interval": "10",
            # On one host a second attempt has nowhere to go, and its "no valid host" would hide the first one's cause.
            "max_attempts": str(min(settings.hosts, MAX_ATTEMPTS)),
        },
        "filter_scheduler": {"enabled_filters": ",".join(FILTERS)},
        "quota": {"instances": "100", "cores": "400", "ram": "512000"},
        # Without it, a Glance that hangs in mid-transfer would hold a build or a snapshot for ever.
        "glance": {**oslo.client_section(settings, "nova"), "timeout": "600"},
        "keystone_authtoken": oslo.token_section(settings, "nova"),
        "service_user": {**oslo.account(settings, "nova"), "send_service_user_token": "true"},
        "neutron": {
            **oslo.client_section(settings, "nova"),
            "service_metadata_proxy": "true",
            "metadata_proxy_shared_secret": settings.secret("metadata_secret"),
            "default_floating_pool": settings.networks.external_name,
        },
        "placement": oslo.client_section(settings, "nova"),
        "cinder": {
            **oslo.account(settings, "nova"),
            "os_region_name": settings.region,
            **({"catalog_info": "volumev3::internalURL"} if settings.volumes else {}),
        },
        "notifications": {"notification_format": "unversioned"},
        "serial_console": {
            "enabled": "true",
            "base_url": f"ws{settings.url(settings.ports.serial_console, '/').removeprefix('http')}",
            "serialproxy_host": settings.bind_address,
            "serialproxy_port": str(settings.ports.serial_console),
            "proxyclient_address": settings.tunnel_address,
        },
        "vnc": {
            "enabled": "true",
            "novncproxy_base_url": settings.url(settings.ports.novnc, "/vnc.html"),
            "novncproxy_host": settings.bind_address,
            "novncproxy_port": str(settings.ports.novnc),
            "server_listen": settings.tunnel_address,
            "server_proxyclient_address": settings.tunnel_address,
        },
        # Our hosts tell which processors they sell whole; without this, a server that wants some for itself is tried
        # on hosts that have none left.
        "workarounds": {"disable_fallback_pcpu_query": "true"},
        "wsgi": {"api_paste_config": API_PASTE_FILE},
        "oslo_concurrency": {"lock_path": f"{STATE_DIRECTORY}/lock"},
        "os_vif_ovs": {"ovsdb_connection": DATABASE_REMOTE},
        **{section: dict(options) for section, options in _hypervisor_options(settings)},
        **oslo.key_manager_sections(settings, "nova"),
        **privilege.helper_sections(settings, "nova"),
        **oslo.messaging_sections(settings),
    }


def _hypervisor_options(settings: Settings) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return the hypervisor's own options, and what our driver must know of this cloud.

    That is its registry, where there is one, and the name servers that OVN's DHCP offers where a subnet names none.
    Besides, Nova is ours here, so that the driver may patch it (docs/adr/0013); in others' clouds it must not.
    """
    options = [("skip_allocation_lookup", "true")]
    if settings.networks.dns_servers:
        options.append(("dns_servers", ",".join(settings.networks.dns_servers)))
    if settings.registry:
        options.append(("cloud_registry", settings.url(settings.ports.registry).removeprefix("https://")))
    if settings.registry and settings.authority:
        options.append(("registry_ca_file", settings.authority))
    return settings.with_driver_options(tuple(options)).hypervisor_options


def host_defaults(settings: Settings, transport_url: str) -> dict[str, str]:
    """Return [DEFAULT] of nova.conf, which is the same on a host that joins another cloud but for its message bus."""
    return {
        **oslo.logging_options(settings),
        "my_ip": settings.tunnel_address,
        "host": settings.hostname,
        "state_path": STATE_DIRECTORY,
        "transport_url": transport_url,
        "compute_driver": settings.compute_driver,
        "force_config_drive": "false",
        # Servers that ran before a reboot of the host run after it.
        "resume_guests_state_on_host_boot": "true",
        "initial_cpu_allocation_ratio": str(settings.cpu_allocation_ratio),
        "initial_ram_allocation_ratio": str(settings.ram_allocation_ratio),
        "initial_disk_allocation_ratio": str(settings.disk_allocation_ratio),
        "reserved_host_memory_mb": str(settings.reserved_memory_mb),
        "reserved_host_disk_mb": str(settings.reserved_disk_mb),
        # Up to a minute of chance before the first round would be a minute before the first server: it is in such
        # a round that a new host is found.
        "periodic_fuzzy_delay": "0",
        # At each round, by default each minute, Nova reads all servers of a host out of the database.
        "update_resources_interval": "180",
        # A service that was busy once keeps its threads, and each wakes every second; there are two such pools.
        "executor_thread_pool_size": "32",
        "vif_plugging_is_fatal": "true",
        "vif_plugging_timeout": "120",
        "max_concurrent_builds": str(settings.concurrent_builds),
        # A server may be resized where it is: the only way on one host, and without a copy on many.
        "allow_resize_to_same_host": "true",
    }


def nova_db_conf(settings: Settings) -> Ini:
    """Return nova-db.conf, apart from nova.conf, because nova-compute refuses to start with a database configured."""
    return {
        "api_database": oslo.database_section(settings, "nova", "nova_api"),
        "database": oslo.database_section(settings, "nova", "nova"),
    }


def serialproxy_conf() -> Ini:
    """Return nova-serialproxy.conf: what only the proxy of the serial consoles reads."""
    return _console_proxy_conf(CONSOLE_PAGE)


def novncproxy_conf() -> Ini:
    """Return nova-novncproxy.conf: what only the proxy of the VNC consoles reads."""
    return _console_proxy_conf(VNC_PAGE)


def _console_proxy_conf(page: str) -> Ini:
    return {
        "DEFAULT": {
            "web": page,
            # At INFO the proxy logs the address of each request, and with it the token that opens a console.
            "default_log_levels": "amqp=WARN,oslo.messaging=INFO,oslo_messaging=INFO,sqlalchemy=WARN,"
            "nova.console.websocketproxy=WARN",
        }
    }
