# SPDX-License-Identifier: Apache-2.0
"""What the recipes of all OpenStack services share: files, migrations, scripts that run on the controller."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.configuration.apis import MODULES, uwsgi_files
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.mariadb import data_directory
from dockstack.deploy.configuration.programs import uwsgi_file
from dockstack.deploy.configuration.scripts import DIRECTORY, python_script
from dockstack.deploy.recipes import host_removal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine

PYTHON = f"{paths.OPENSTACK_VENV}/bin/python"
MIGRATION_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore"}
MIGRATION = "migration-"
"""With what the manifest's records of migrations begin; a service's user follows."""
_WITHDRAWN = "withdrawn"


def write_configuration(machine: Machine, user: str, files: Mapping[str, Ini]) -> None:
    """Write a service's files. They belong to root and only the service can read them, because they hold passwords."""
    for path, ini in files.items():
        machine.file(path, render_ini(ini), group=user, mode=0o640)


def write_api_file(machine: Machine, settings: Settings, name: str) -> None:
    """Write the uWSGI file of one API, and the module that it runs if that is one of ours."""
    machine.directory(uwsgi_file(name).rpartition("/")[0])
    if name in MODULES:
        install_script(machine, MODULES[name])
    machine.file(uwsgi_file(name), render_ini(uwsgi_files(settings)[name]))


def copy_paste_file(machine: Machine, source: str, path: str, user: str) -> None:
    """Copy the file of an API's WSGI pipeline from the environment, which has that of the installed release."""
    content = machine.read(f"{paths.OPENSTACK_VENV}/etc/{source}")
    if content is not None:
        machine.file(path, content, group=user, mode=0o640)


def migrate(
    machine: Machine,
    settings: Settings,
    user: str,
    database: str,
    *commands: Sequence[str],
    title: str,
) -> None:
    """Bring a database to the installed version by these commands, once for each set of installed versions."""

    def run() -> None:
        for command in commands:
            machine.command(command, title=title, user=user, environment=MIGRATION_ENVIRONMENT)

    table = f"{data_directory(settings)}/{database}/alembic_version.frm"
    machine.once(f"{MIGRATION}{user}", installed_versions(machine), run, unless=["test", "-e", table])


def installed_versions(machine: Machine) -> str:
    """Return the hash of the installed set of services."""
    return machine.digests([paths.LOCK_MARKER])[paths.LOCK_MARKER]


def once_in_database(machine: Machine, name: str, what: str, action: Callable[[], object]) -> None:
    """Put ``what`` into the cloud's database, unless exactly that was done before, in one that is still there."""
    created = machine.manifest.done("database-created") or ""
    machine.once(name, hashlib.sha256(f"{created}{what}".encode()).hexdigest(), action)


def install_script(machine: Machine, name: str) -> str:
    """Put a script of the payload onto the node and return its path."""
    content = (resources.files("dockstack.deploy.payload") / f"{name}.py").read_text()
    machine.directory(DIRECTORY)
    path = python_script(name)
    machine.file(path, content)
    return path


def provision(machine: Machine, action: str, desired: Mapping[str, Any]) -> None:
    """Run one action of provision.py on the node; the desired state holds passwords, so it goes to standard input."""
    script = install_script(machine, "provision")
    machine.command([PYTHON, script, action], stdin=json.dumps(desired), environment=MIGRATION_ENVIRONMENT)


def ask(machine: Machine, action: str, desired: Mapping[str, Any]) -> None:
    """Run one action of provision.py that only looks or waits, which does not count as a change."""
    script = install_script(machine, "provision")
    machine.run([PYTHON, script, action], stdin=json.dumps(desired), environment=MIGRATION_ENVIRONMENT)


def provision_once(machine: Machine, action: str, desired: Mapping[str, Any], *, noted: str = "") -> None:
    """Run an action unless exactly this desired state was reached before, in a database that still exists.

    Args:
        machine: the controller.
        action: of provision.py.
        desired: what it shall reach.
        noted: what the manifest calls it; by default it goes by the action.
    """
    text = json.dumps(desired, sort_keys=True)
    once_in_database(machine, noted or f"provision-{action}", text, lambda: provision(machine, action, desired))


def retire(
    machine: Machine, services: Collection[str], files: Sequence[str], *, provided: str, desired: Mapping[str, Any]
) -> None:
    """Have services that are not wanted any more neither in the catalogue nor running, if an earlier run had them.

    Args:
        machine: the controller.
        services: their names.
        files: what they were told, which goes with them.
        provided: what the manifest calls it that they were put into the catalogue; goes on saying that they once were.
        desired: the state that put them there.
    """
    if machine.manifest.done(provided) not in (None, _WITHDRAWN):
        provision(machine, "withdraw", desired)
        machine.manifest.set_done(provided, _WITHDRAWN)
    for path in files if forget(machine, services) else ():
        machine.absent(path)


def forget(machine: Machine, services: Collection[str]) -> bool:
    """Stop services that an earlier run had started, and forget them; say whether there were any.

    Args:
        machine: the controller.
        services: their names.
    """
    running = [service for service in machine.records.services() if service.name in services]
    for service in running:
        host_removal.forget(machine, service)
    return bool(running)
