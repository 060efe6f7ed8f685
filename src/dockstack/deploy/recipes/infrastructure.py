# SPDX-License-Identifier: Apache-2.0
"""MariaDB, RabbitMQ and memcached, instances of our own; and the fork server."""

from __future__ import annotations

import hashlib
import shlex
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import fork_server, mariadb, programs, rabbitmq
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.node import baked
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import encryption
from dockstack.deploy.recipes.controller import forget, install_script
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.hosts import further_keys
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

_BAKED = "database-baked"
"""What the manifest calls it that the database, by the name of its creation, came out of an archive."""
DATABASE_OPTIONS = f"{paths.ETC}/mariadb.cnf"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return a stage for each of the three, and those of what Python services are forked from."""
    if not node.has(Role.CONTROLLER):
        return ()
    # Whatever comes later waits for one of these, and speaks through the proxy, if there is one.
    before = ("packages", "accounts", "supervisor", *((encryption.PROXY,) if encryption.wanted(node) else ()))
    # All Python services come after the cache, and so after what they are forked from.
    forks = _fork_server(node)
    cache = Stage(
        "token-cache",
        "Starting the token cache",
        token_cache,
        (*before, *(stage.name for stage in forks)),
        phase="infrastructure",
    )
    return (
        Stage("database", "Starting the database", database, before, phase="infrastructure"),
        Stage("message-bus", "Starting the message bus", message_bus, before, phase="infrastructure"),
        *forks,
        Stage(
            "fork-server-removal",
            "Removing what Python services were forked from",
            remove_fork_server,
            _forking(node),
            weight=0,
            phase="services",
        ),
        cache,
    )


def _fork_server(node: Node) -> tuple[Stage, ...]:
    """Return the stage of the fork server, where one is wanted; it imports the driver, so that comes before it."""
    if not node.attributes.flag("services.fork_server"):
        return ()
    installed = ("hypervisor-configure",) if chosen(node) is not None else ()
    after = ("openstack-environment", "accounts", "supervisor", *installed)
    title = "Starting what Python services are forked from"
    return (Stage("fork-server", title, start_fork_server, after, phase="infrastructure"),)


def database(machine: Machine) -> None:
    """Have MariaDB running with a database and an account for each service."""
    settings = settings_of(machine)
    machine.file(DATABASE_OPTIONS, render_ini(mariadb.mariadb_cnf(settings)))
    machine.user("mysql", home="/nonexistent")
    machine.directory("/var/log/mariadb", group="adm", mode=0o750)
    _make_data_directory(machine, settings)
    (service,) = (each for each in programs.infrastructure(settings) if each.name == "mariadb")
    ensure_running(machine, service)
    sql = mariadb.bootstrap_sql(settings)
    created = machine.manifest.done("database-created") or ""
    machine.once(
        "database-accounts",
        hashlib.sha256(f"{created}{sql}".encode()).hexdigest(),
        lambda: run_sql(machine, settings, sql),
    )
    _make_its_own(machine, settings, created)


def _make_data_directory(machine: Machine, settings: Settings) -> None:
    """Make an empty instance in a temporary place and move it when it is complete, as the run may be killed."""
    final = mariadb.data_directory(settings)
    if _place_baked(machine, Path(final)):
        return
    new = shlex.quote(f"{final}.new")
    options = "--user=mysql --skip-test-db --auth-root-authentication-method=socket"
    install = f"mariadb-install-db --defaults-file={DATABASE_OPTIONS} --datadir={new} {options}"
    made = machine.command(
        f"rm -rf {new} && install -d -o mysql -g mysql -m 700 {new} && {install}"
        f" && sync -f {new} && rm -rf {shlex.quote(final)} && mv -T {new} {shlex.quote(final)}",
        title="Making the database's files",
        unless=["test", "-d", f"{final}/mysql"],
    )
    if made:
        # What was done in a database that is gone has to be done again.
        machine.manifest.set_done("database-created", uuid.uuid4().hex)


def _place_baked(machine: Machine, final: Path) -> bool:
    """Place the databases of the archive that this machine comes up from, if there is one and here is none yet.

    They are at the installed version, and hold no row, no account and no password of any cloud.
    """
    if machine.baked is None or (final / "mysql").is_dir():
        return False
    machine.say("Unpacking the databases")
    unpacked = Path(paths.BAKED) / baked.DATABASES
    machine.baked.unpack(baked.DATABASES, unpacked)
    machine.absent(str(final))  # what a killed run has left
    files = shlex.quote(f"{unpacked}/mariadb")
    machine.command(f"chown -R mysql:mysql {files} && sync -f {files}")
    created = uuid.uuid4().hex
    machine.manifest.set_done("database-created", created)
    machine.manifest.set_done(_BAKED, created)
    for record in sorted((unpacked / "done").iterdir()):
        machine.manifest.set_done(record.name, record.read_text())
    # Last, for records without a database count for nothing, and a database without records would go by the wrong ones.
    machine.command(["mv", "-T", f"{unpacked}/mariadb", str(final)])
    return True


def _make_its_own(machine: Machine, settings: Settings, created: str) -> None:
    """Give databases out of an archive the one name in them that each cloud has for itself: its cell's."""
    if machine.manifest.done(_BAKED) != created:
        return
    own = uuid.uuid4()
    sql = f"UPDATE nova_api.cell_mappings SET uuid = '{own}' WHERE name = 'cell1';\n"  # noqa: S608 - of our own making
    machine.once("database-own-cell", created, lambda: run_sql(machine, settings, sql))


def run_sql(machine: Machine, settings: Settings, sql: str) -> None:
    """Run statements as the database's administrator; they go to standard input, as they hold passwords."""
    client = ["mariadb", "--no-defaults", f"--socket={settings.database_socket}"]
    machine.command(client, stdin=sql)


def message_bus(machine: Machine) -> None:
    """Have RabbitMQ running with the services' account."""
    settings = settings_of(machine)
    state = f"{settings.state_directory}/rabbitmq"
    machine.directory(rabbitmq.CONFIGURATION_DIRECTORY)
    machine.directory(state, owner="rabbitmq", mode=0o700)
    machine.directory("/var/log/rabbitmq", owner="rabbitmq", mode=0o750)
    machine.file(f"{rabbitmq.CONFIGURATION_DIRECTORY}/rabbitmq.conf", rabbitmq.rabbitmq_conf(settings))
    machine.file(f"{rabbitmq.CONFIGURATION_DIRECTORY}/enabled_plugins", "[].\n")
    machine.file(
        f"{rabbitmq.CONFIGURATION_DIRECTORY}/definitions.json",
        rabbitmq.definitions_json(settings),
        group="rabbitmq",
        mode=0o640,
    )
    machine.file(f"{state}/.erlang.cookie", settings.secret("rabbitmq_cookie"), owner="rabbitmq", mode=0o400)
    for service in programs.infrastructure(settings):
        if service.name in {"epmd", "rabbitmq"}:
            ensure_running(machine, service)


def token_cache(machine: Machine) -> None:
    """Have memcached running."""
    for service in programs.infrastructure(settings_of(machine)):
        if service.name == "memcached":
            ensure_running(machine, service)


def _forking(node: Node) -> tuple[str, ...]:
    """Return the stages that start services which may be forked."""
    keys = further_keys(node.attributes) if chosen(node) is not None else ()
    further = (f"{key}-{name}" for key in keys for name in ("compute", "agent"))
    compute = ("compute",) if chosen(node) is not None else ()
    return ("identity", "placement", "glance", "nova", "nova-daemons", "neutron-workers", *compute, *further)


def start_fork_server(machine: Machine) -> None:
    """Have Python services forked from one process; without it they import for themselves, so nothing fails with it."""
    settings = settings_of(machine)
    for name in (fork_server.SERVER, fork_server.SHIM):
        install_script(machine, name)
    try:
        ensure_running(machine, programs.forks(settings))
    except StepFailedError as error:
        machine.say(f"warning: services are not forked, and share no memory: {error}")


def remove_fork_server(machine: Machine) -> None:
    """Remove it where it is not wanted, once no service asks it any more."""
    if settings_of(machine).fork_server or any(service.shim for service in machine.records.services()):
        return
    forget(machine, (fork_server.NAME,))
    for path in (*fork_server.SCRIPTS, fork_server.DIRECTORY):
        machine.absent(path)
