# SPDX-License-Identifier: Apache-2.0
"""Keystone: database, keys, API, administrator, then the accounts and endpoints of all others."""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, programs
from dockstack.deploy.configuration.keystone import KEY_DIRECTORIES, keystone_conf
from dockstack.deploy.recipes.controller import (
    MIGRATION_ENVIRONMENT,
    install_script,
    migrate,
    provision_once,
    write_api_file,
    write_configuration,
)
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CONF = "/etc/keystone/keystone.conf"
MANAGE = (f"{paths.OPENSTACK_VENV}/bin/keystone-manage", "--config-file", CONF)


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages from an empty database to a full catalogue."""
    if not node.has(Role.CONTROLLER):
        return ()
    return (
        Stage("keystone-files", "Configuring Keystone", configure, ("accounts",), phase="configure"),
        Stage(
            "keystone-database",
            "Migrating Keystone's database",
            migrate_database,
            ("keystone-files", "database", "openstack-environment"),
            phase="databases",
        ),
        Stage(
            "keystone-administrator", "Making the administrator", bootstrap, ("keystone-database",), phase="identity"
        ),
        Stage("keystone", "Starting Keystone", start, ("keystone-administrator", "token-cache"), phase="identity"),
        Stage("identity", "Making accounts and the catalogue", provide, ("keystone",), phase="identity"),
    )


def configure(machine: Machine) -> None:
    """Write the files and make the keys."""
    settings = settings_of(machine)
    write_configuration(machine, "keystone", {CONF: keystone_conf(settings)})
    write_api_file(machine, settings, "keystone")
    for directory in KEY_DIRECTORIES:
        machine.directory(directory, owner="keystone", mode=0o700)
        machine.command(make_keys(directory), user="keystone", unless=["test", "-s", f"{directory}/1"])


def make_keys(directory: str) -> str:
    """Return the shell line that makes the first two Fernet keys: 32 random bytes each in URL-safe base64.

    keystone-manage would do the same in seven seconds of imports. The line can be killed anywhere and run again.
    """
    place = shlex.quote(directory)
    make = f"head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\\n' > {place}/.new"
    one = f"test -s {place}/$key || {{ {make} && mv {place}/.new {place}/$key; }} || exit 1"
    return f"umask 077; for key in 0 1; do {one}; done"


def migrate_database(machine: Machine) -> None:
    """Bring the database to the installed version."""
    title = "Migrating Keystone's database"
    migrate(machine, settings_of(machine), "keystone", "keystone", (*MANAGE, "db_sync"), title=title)


def bootstrap(machine: Machine) -> None:
    """Make the administrator and Keystone's own endpoints."""
    settings = settings_of(machine)
    created = machine.manifest.done("database-created") or ""
    material = f"{created}{settings.secret('admin_password')}{settings.identity_url}{settings.region}"
    key = hashlib.sha256(material.encode()).hexdigest()
    machine.once("keystone-bootstrap", key, lambda: _bootstrap(machine, settings))


def _bootstrap(machine: Machine, settings: Settings) -> None:
    urls = [f"--bootstrap-{interface}-url={settings.identity_url}" for interface in ("admin", "internal", "public")]
    bootstrap = shlex.join([*MANAGE, "bootstrap", *urls, f"--bootstrap-region-id={settings.region}"])
    machine.command(
        f"read -r OS_BOOTSTRAP_PASSWORD && export OS_BOOTSTRAP_PASSWORD && exec {bootstrap}",
        user="keystone",
        stdin=settings.secret("admin_password") + "\n",
        environment=MIGRATION_ENVIRONMENT,
    )


def start(machine: Machine) -> None:
    """Have the API running."""
    for service in programs.keystone(settings_of(machine)):
        ensure_running(machine, service)


def provide(machine: Machine) -> None:
    """Make the services' accounts, the catalogue and the first tenant."""
    install_script(machine, "provision")  # here, where nothing that needs it runs yet: later stages run side by side
    provision_once(machine, "identity", desired_state.identity(settings_of(machine)))
