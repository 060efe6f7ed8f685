# SPDX-License-Identifier: Apache-2.0
"""Every process of the cloud as a Service: its command, user, dependencies and readiness check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import fork_server, openvswitch, rabbitmq, scripts
from dockstack.deploy.configuration.apis import MODULES
from dockstack.deploy.configuration.openvswitch import DATABASE_SOCKET
from dockstack.deploy.paths import API_CERTIFICATE, DRIVER_MARKER, ETC, LOCK_MARKER
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.distributions import Distribution

OVS_GROUP = "dockstack-ovs"
"""Whoever is in it may speak to Open vSwitch's and OVN's databases."""

CACHE_GROUP = "dockstack-cache"
"""Whoever is in it may read the token cache."""

# What consoles' proxies, and with Nova 33 nova-compute, do not yet choose by themselves.
NATIVE_THREADS = {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"}
PYTHON_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}

NOVA_CONDUCTOR = "nova_conductor"
"""The script that is Nova's conductor; the recipe puts it where the scripts are."""

CINDER_VOLUME = "cinder_volume"
"""The script that is cinder-volume, likewise."""

OPEN_VSWITCH_AGENT_CONF = "/etc/neutron/openvswitch_agent.ini"

TLS_PROXY = "tls-proxy"
TLS_PROXY_CFG = f"{ETC}/tls-proxy.cfg"

VIEWER_BYTES = 768 * 1024**2
"""How much memory one process of a console proxy may have; idle, it has a fifth of that."""

UWSGI_END = 30
"""uWSGI's exit status when it was asked to end (UWSGI_END_CODE in its source)."""

_TITLES = {
    "keystone": "Identity API",
    "placement-api": "Placement API",
    "glance-api": "Image API",
    "nova-api": "Compute API",
    "nova-metadata": "Metadata API",
    "nova-conductor": "Nova's conductor",
    "nova-scheduler": "Nova's scheduler",
    "nova-serialproxy": "Serial consoles for browsers",
    "nova-novncproxy": "VNC consoles for browsers",
    "nova-compute": "Nova's compute node",
    "neutron-api": "Network API",
    "neutron-ovn-maintenance-worker": "Repairs differences between Neutron and OVN",
    "neutron-ovn-agent": "Metadata for servers",
    "neutron-openvswitch-agent": "Networks and security groups in Open vSwitch",
    "cinder-api": "Block storage API",
    "cinder-volume": "Volumes, snapshots and backups",
    "barbican-api": "Key manager API",
}

# The group must write to a socket to connect to it; a supervisor's usual umask takes that away.
_GROUP_WRITABLE = ("/bin/sh", "-c", 'umask 007; exec "$@"', "sh")

_QUIET = ("-vconsole:info", "-vsyslog:off", "-vfile:off")


def infrastructure(settings: Settings) -> tuple[Service, ...]:
    """Return the database, the message bus and the cache."""
    return (_mariadb(settings), *_rabbitmq(settings), _memcached(settings))


def forks(settings: Settings) -> Service:
    """Return what the Python services are forked from."""
    return fork_server.service(settings, {**PYTHON_ENVIRONMENT, **NATIVE_THREADS})


def tls_proxy(settings: Settings) -> Service:
    """Return what ends TLS for other machines, in front of the APIs, the message bus and the consoles."""
    return Service(
        name=TLS_PROXY,
        title="TLS for the APIs, the message bus and the consoles",
        command=("/usr/sbin/haproxy", "-db", "-f", TLS_PROXY_CFG),
        check=Check(CheckKind.TCP, f"{settings.listen_address}:{settings.ports.keystone}"),
        watch=(TLS_PROXY_CFG, API_CERTIFICATE),
        packages=settings.distribution.packages_of("haproxy"),
    )


def _through(settings: Settings) -> tuple[str, ...]:
    """Return what stands between OpenStack's services, on this machine, too."""
    return (TLS_PROXY,) if settings.tls else ()


def network_fabric(settings: Settings, distribution: Distribution) -> tuple[Service, ...]:
    """Return Open vSwitch and OVN."""
    return (
        Service(
            name="ovsdb",
            title="Open vSwitch's configuration database",
            command=(
                *_GROUP_WRITABLE,
                "/usr/sbin/ovsdb-server",
                "/etc/openvswitch/conf.db",
                f"--remote=punix:{DATABASE_SOCKET}",
                "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
                "--unixctl=/run/openvswitch/ovsdb-server.ctl",
                "--pidfile=/run/openvswitch/ovsdb-server.pid",
                *_QUIET,
            ),
            group=OVS_GROUP,
            log="/var/log/openvswitch/ovsdb-server.log",
            prepare=((scripts.OPEN_VSWITCH_DATABASE,),),
            check=Check(CheckKind.UNIX, DATABASE_SOCKET),
            packages=distribution.packages_of("ovs-vswitchd"),
            replaces=distribution.units["ovs-vswitchd"],
        ),
        Service(
            name="ovs-vswitchd",
            title="Open vSwitch's datapath",
            command=(
                "/usr/sbin/ovs-vswitchd",
                f"unix:{DATABASE_SOCKET}",
                "--pidfile=/run/openvswitch/ovs-vswitchd.pid",
                *_QUIET,
            ),
            log="/var/log/openvswitch/ovs-vswitchd.log",
            requires=("ovsdb",),
            prepare=((scripts.OPEN_VSWITCH_SETTINGS,),),
            check=Check(CheckKind.COMMAND, command=("ovs-appctl", "-t", "ovs-vswitchd", "version")),
            watch=(scripts.OPEN_VSWITCH_SETTINGS,),
            packages=distribution.packages_of("ovs-vswitchd"),
        ),
        _ovn_database(settings, distribution, "nb"),
        _ovn_database(settings, distribution, "sb"),
        Service(
            name="ovn-northd",
            title="OVN's translator of logical networks to flows",
            command=(
                "/usr/bin/ovn-northd",
                "--ovnnb-db=unix:/run/ovn/ovnnb_db.sock",
                "--ovnsb-db=unix:/run/ovn/ovnsb_db.sock",
                "--pidfile=/run/ovn/ovn-northd.pid",
                "--n-threads=1",
                *_QUIET,
            ),
            log="/var/log/ovn/ovn-northd.log",
            requires=("ovn-nb", "ovn-sb"),
            check=Check(CheckKind.COMMAND, command=("ovn-appctl", "-t", "ovn-northd", "status")),
            packages=distribution.packages_of("ovn-northd"),
        ),
        Service(
            name="ovn-controller",
            title="OVN on this chassis, and the external bridge",
            command=(
                "/usr/bin/ovn-controller",
                f"unix:{DATABASE_SOCKET}",
                "--pidfile=/run/ovn/ovn-controller.pid",
                *_QUIET,
            ),
            log="/var/log/ovn/ovn-controller.log",
            requires=("ovs-vswitchd", "ovn-sb"),
            # Where OVN's databases are elsewhere, nobody else makes it.
            prepare=(("install", "-d", "-m", "755", "/run/ovn"), (scripts.EXTERNAL_BRIDGE,)),
            check=Check(CheckKind.COMMAND, command=("ovn-appctl", "-t", "ovn-controller", "connection-status")),
            watch=(scripts.EXTERNAL_BRIDGE, scripts.OPEN_VSWITCH_SETTINGS),
            packages=distribution.packages_of("ovn-controller"),
            replaces=distribution.units["ovn-controller"],
        ),
    )


def keystone(settings: Settings) -> tuple[Service, ...]:
    """Return the identity API."""
    files = ("/etc/keystone/keystone.conf",)
    return (_api(settings, "keystone", "keystone", settings.ports.keystone, files),)


def placement(settings: Settings) -> tuple[Service, ...]:
    """Return the placement API."""
    return (
        _api(
            settings,
            "placement-api",
            "placement",
            settings.ports.placement,
            ("/etc/placement/placement.conf",),
        ),
    )


def glance(settings: Settings) -> tuple[Service, ...]:
    """Return the image API."""
    files = ("/etc/glance/glance-api.conf", "/etc/glance/glance-api-paste.ini")
    return (_api(settings, "glance-api", "glance", settings.ports.glance, files),)


def nova_control(settings: Settings) -> tuple[Service, ...]:
    """Return Nova without nova-compute."""
    files = ("/etc/nova/nova.conf", "/etc/nova/nova-db.conf")
    api_files = (*files, "/etc/nova/nova-api-paste.ini")
    return (
        _api(settings, "nova-api", "nova", settings.ports.nova, api_files),
        _api(settings, "nova-metadata", "nova", settings.ports.nova_metadata, api_files),
        _conductor(settings, files),
        _daemon(settings, "nova-scheduler", "nova", files),
        _console_proxy(settings, "nova-serialproxy", files, settings.ports.serial_console),
        _console_proxy(settings, "nova-novncproxy", files, settings.ports.novnc),
    )


def _conductor(settings: Settings, files: tuple[str, ...]) -> Service:
    """Nova's conductor, run by a script of ours that also ends builds which nobody is working on."""
    service = _by_script(settings, _daemon(settings, "nova-conductor", "nova", files), NOVA_CONDUCTOR)
    # Nova 33 would choose eventlet once it is loaded, which is too late for what the script has loaded before.
    return replace(service, environment={**service.environment, **NATIVE_THREADS})


def _by_script(settings: Settings, service: Service, name: str) -> Service:
    """Have a daemon run by a script of ours, with the same arguments."""
    script = scripts.python_script(name)
    command = (f"{settings.virtualenv}/bin/python", script, *service.command[1:])
    return replace(service, command=command, watch=(*service.watch, script))


def nova_compute(settings: Settings, groups: tuple[str, ...] = (), watch: tuple[str, ...] = ()) -> tuple[Service, ...]:
    """Return nova-compute; a hypervisor adds groups for its sockets and files that decide on a restart."""
    service = _daemon(
        settings,
        "nova-compute",
        "nova",
        ("/etc/nova/nova.conf",),
        groups=(OVS_GROUP, CACHE_GROUP, *groups),
        watch=watch,
        requires=("rabbitmq", "ovs-vswitchd"),
    )
    return (replace(service, environment={**service.environment, **NATIVE_THREADS}),)


def neutron(settings: Settings) -> tuple[Service, ...]:
    """Return Neutron's API, its maintenance worker and the agent that serves metadata."""
    files = ("/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini")
    agent_files = ("/etc/neutron/neutron.conf", "/etc/neutron/ovn_agent.ini")
    groups = (OVS_GROUP, CACHE_GROUP)
    return (
        _api(
            settings,
            "neutron-api",
            "neutron",
            settings.ports.neutron,
            (*files, "/etc/neutron/api-paste.ini"),
            groups=groups,
            requires=("ovn-nb", "ovn-sb"),
        ),
        _daemon(
            settings,
            "neutron-ovn-maintenance-worker",
            "neutron",
            files,
            groups=groups,
            requires=("mariadb", "rabbitmq", "ovn-nb", "ovn-sb"),
        ),
        _daemon(
            settings,
            "neutron-ovn-agent",
            "neutron",
            agent_files,
            groups=groups,
            watch=settings.agent_watch,
            requires=("ovn-controller",),
        ),
    )


def cinder(settings: Settings) -> tuple[Service, ...]:
    """Return Cinder: its API, and by a script of ours what makes volumes, with the scheduler and the backups."""
    files = ("/etc/cinder/cinder.conf",)
    volume = _daemon(settings, "cinder-volume", "cinder", files, watch=(DRIVER_MARKER,))
    return (
        _api(settings, "cinder-api", "cinder", settings.ports.cinder, (*files, "/etc/cinder/api-paste.ini")),
        _by_script(settings, volume, CINDER_VOLUME),
    )


def barbican(settings: Settings) -> tuple[Service, ...]:
    """Return the key manager's API, which does all of its work."""
    files = ("/etc/barbican/barbican.conf", "/etc/barbican/barbican-api-paste.ini", "/etc/barbican/policy.yaml")
    service = _api(settings, "barbican-api", "barbican", settings.ports.barbican, files)
    return (replace(service, requires=tuple(name for name in service.requires if name != "rabbitmq")),)


def openvswitch_agent(settings: Settings) -> Service:
    """Return Neutron's agent of a compute node whose networks are not OVN's.

    It makes the bridge for servers just before it reports to Neutron for the first time.
    """
    files = ("/etc/neutron/neutron.conf", OPEN_VSWITCH_AGENT_CONF)
    requires = ("ovs-vswitchd",)
    agent = _daemon(settings, "neutron-openvswitch-agent", "neutron", files, groups=(OVS_GROUP,), requires=requires)
    bridge = ("ovs-vsctl", "--timeout=10", "br-exists", "br-int")
    return replace(agent, check=Check(CheckKind.COMMAND, command=bridge))


def _console_proxy(settings: Settings, name: str, files: tuple[str, ...], port: int) -> Service:
    """Return a proxy of consoles, with a memory limit: it buffers without bound what a slow browser has not read.

    It forks for each viewer, so the limit ends one viewer's process and no other.
    """
    service = _daemon(settings, name, "nova", (*files, f"/etc/nova/{name}.conf"))
    return replace(
        service,
        environment={**service.environment, **NATIVE_THREADS},
        command=("/usr/bin/prlimit", f"--data={VIEWER_BYTES}", *service.command),
        check=Check(CheckKind.TCP, f"{settings.local_address}:{port}"),
    )


def _mariadb(settings: Settings) -> Service:
    directory = f"{settings.run_directory}/mariadb"
    question = ("mariadb", "--no-defaults", f"--socket={settings.database_socket}")
    return Service(
        name="mariadb",
        title="Database",
        command=(settings.distribution.paths["mariadbd"], f"--defaults-file={ETC}/mariadb.cnf"),
        user="mysql",
        log="/var/log/mariadb/mariadb.log",
        prepare=(("install", "-d", "-o", "mysql", "-g", "mysql", "-m", "755", directory),),
        check=Check(CheckKind.COMMAND, command=(*question, "-e", "DO 1")),
        watch=(f"{ETC}/mariadb.cnf",),
        packages=settings.distribution.packages_of("mariadbd"),
        stop_timeout=60,
    )


def _rabbitmq(settings: Settings) -> tuple[Service, ...]:
    environment = rabbitmq.environment(settings)
    epmd_port = settings.ports.epmd
    return (
        Service(
            name="epmd",
            title="Erlang's port mapper, for the message bus",
            command=("/usr/bin/epmd", "-address", "127.0.0.1", "-port", str(epmd_port)),
            user="epmd",
            log="/var/log/rabbitmq/epmd.log",
            check=Check(CheckKind.TCP, f"127.0.0.1:{epmd_port}"),
            # The socket first: it would start its service again, on all addresses.
            replaces=settings.distribution.units["epmd"],
        ),
        Service(
            name="rabbitmq",
            title="Message bus",
            command=("/usr/lib/rabbitmq/bin/rabbitmq-server",),
            user="rabbitmq",
            environment=environment,
            log="/var/log/rabbitmq/rabbitmq.log",
            requires=("epmd",),
            check=Check(CheckKind.TCP, f"{settings.bind_address}:{settings.ports.rabbitmq}"),
            watch=(
                f"{rabbitmq.CONFIGURATION_DIRECTORY}/rabbitmq.conf",
                f"{rabbitmq.CONFIGURATION_DIRECTORY}/definitions.json",
            ),
            packages=settings.distribution.packages_of("rabbitmq-server"),
            replaces=settings.distribution.units["rabbitmq-server"],
        ),
    )


def _memcached(settings: Settings) -> Service:
    directory, account = f"{settings.run_directory}/memcached", settings.distribution.accounts["memcached"]
    return Service(
        name="memcached",
        title="Token cache",
        command=(
            "/usr/bin/memcached",
            "-s",
            settings.memcached_socket,
            "-a",
            "0770",
            "-m",
            "32",
            "-t",
            "1",
            "-c",
            "512",
        ),
        user=account,
        group=CACHE_GROUP,
        log="/var/log/dockstack/memcached.log",
        prepare=(("install", "-d", "-o", account, "-g", CACHE_GROUP, "-m", "750", directory),),
        check=Check(CheckKind.UNIX, settings.memcached_socket),
        packages=settings.distribution.packages_of("memcached"),
    )


def _ovn_database(settings: Settings, distribution: Distribution, side: str) -> Service:
    socket = f"/run/ovn/ovn{side}_db.sock"
    name = "northbound" if side == "nb" else "southbound"
    return Service(
        name=f"ovn-{side}",
        title=f"OVN's {name} database",
        command=(
            *_GROUP_WRITABLE,
            "/usr/sbin/ovsdb-server",
            f"/var/lib/ovn/ovn{side}_db.db",
            f"--remote=punix:{socket}",
            *openvswitch.listener_arguments(settings, side),
            f"--unixctl=/run/ovn/ovn{side}_db.ctl",
            f"--pidfile=/run/ovn/ovn{side}_db.pid",
            *_QUIET,
        ),
        group=OVS_GROUP,
        log=f"/var/log/ovn/ovsdb-server-{side}.log",
        prepare=((scripts.OVN_DATABASE, side),),
        check=Check(CheckKind.UNIX, socket),
        packages=distribution.packages_of("ovn-northd"),
        replaces=distribution.units["ovn-northd"],
    )


def uwsgi_file(name: str) -> str:
    """Return the path of an API's uWSGI configuration."""
    return f"{ETC}/uwsgi/{name}.ini"


def _api(
    settings: Settings,
    name: str,
    user: str,
    port: int,
    files: tuple[str, ...],
    *,
    groups: tuple[str, ...] = (CACHE_GROUP,),
    requires: tuple[str, ...] = (),
) -> Service:
    """An API in one uWSGI process."""
    module = (scripts.python_script(MODULES[name]),) if name in MODULES else ()
    service = Service(
        name=name,
        title=_TITLES[name],
        command=(f"{settings.virtualenv}/bin/uwsgi", "--ini", uwsgi_file(name)),
        user=user,
        groups=groups,
        environment={**PYTHON_ENVIRONMENT, **_CONFIGURATION_ENVIRONMENT.get(user, {})},
        log=f"/var/log/{user}/{name}.log",
        requires=(
            "mariadb",
            "memcached",
            *(() if user in {"keystone", "placement"} else ("rabbitmq",)),
            *requires,
            *_through(settings),
        ),
        check=Check(CheckKind.HTTP, f"http://{settings.local_address}:{port}/"),
        watch=(*files, *module, uwsgi_file(name), LOCK_MARKER),
        end_statuses=(UWSGI_END,),
    )
    return _forked(settings, service)


def _forked(settings: Settings, service: Service) -> Service:
    """Have a service forked if there is a family for it: Cinder and Barbican have none."""
    family = _FAMILIES.get(service.user)
    return fork_server.forked(settings, service, family) if family else service


_FAMILIES = {
    "keystone": fork_server.COMMON,
    "placement": fork_server.COMMON,
    "glance": fork_server.COMMON,
    "nova": fork_server.NOVA,
    "neutron": fork_server.NEUTRON,
}


_CONFIGURATION_ENVIRONMENT = {
    # Nova takes the first file as paste configuration.
    "nova": {
        "OS_NOVA_CONFIG_DIR": "/etc/nova",
        "OS_NOVA_CONFIG_FILES": "nova-api-paste.ini;nova.conf;nova-db.conf",
    },
}


def _daemon(
    settings: Settings,
    name: str,
    user: str,
    files: tuple[str, ...],
    *,
    groups: tuple[str, ...] = (CACHE_GROUP,),
    watch: tuple[str, ...] = (),
    requires: tuple[str, ...] = ("mariadb", "rabbitmq"),
) -> Service:
    """Return a daemon of the services' environment that reads the given files."""
    options = tuple(part for file in files for part in ("--config-file", file))
    service = Service(
        name=name,
        title=_TITLES[name],
        command=(f"{settings.virtualenv}/bin/{name}", *options),
        user=user,
        groups=groups,
        environment=PYTHON_ENVIRONMENT,
        log=f"/var/log/{user}/{name}.log",
        requires=(*requires, *_through(settings)),
        watch=(*files, LOCK_MARKER, *watch),
    )
    return _forked(settings, service)
