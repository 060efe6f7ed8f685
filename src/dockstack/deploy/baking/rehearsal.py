# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.baking.rehearsal``: migrate databases with the stages of ``up``, beside a running cloud.

It runs in mount and process namespaces of its own, where the directories of this machine's cloud are covered by empty
ones: the stages find a machine with all programs and without a cloud. So no secret and no row of this machine's cloud
can come into the databases, and nothing here is touched. The secrets that the stages make are thrown away, with the
accounts that have them.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.settings import DATABASES, SERVICE_USERS
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.infrastructure import run_sql
from dockstack.deploy.run.apply import carry_out, print_event
from dockstack.deploy.run.plan import Task, node_stages, tasks
from dockstack.deploy.supervision.machine import Machine
from dockstack.deploy.wanted import inventory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.run.events import Event

# The databases of every cloud. What only some have is migrated when they come up.
SETTINGS = ("services.backend=supervisor", "tls.enable=false", "volumes.enable=false", "key_manager.enable=false")
# Whatever becomes of the command, nothing of it goes on; the machine's name, which MariaDB would note, is not seen.
NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation=private", "--uts"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
NAMELESS = "localhost"  # of which MariaDB makes no account for the administrator of a machine
COVERED = ("/etc", "/var/log", paths.VAR, "/run", paths.OPT)  # by directories in memory, or by some in the workplace
READ_ONLY = ("/usr", "/var/lib/dpkg", "/var/lib/apt")
_CURE = "`dockstack up` puts right what is missing on this machine; then run `dockstack bake` again."
STATE = "state"  # what is seen as /var/lib/dockstack, below the directory that is given
_PHASE = "databases"
_MEMORY = ("-t", "tmpfs", "-o", "mode=755", "tmpfs")
_SERVICES = (*SERVICE_USERS, "cinder", "barbican", "dockstack", "openstack")  # that have a directory in /etc


def cover(directory: Path) -> None:
    """Have empty directories in the place of the cloud's, a copy of /etc without it, and its programs as they are.

    No socket of a daemon is there to be asked, and no package can be installed.
    """
    socket.sethostname(NAMELESS)
    etc, log, state, programs = (directory / name for name in ("etc", "log", STATE, "programs"))
    for place in (etc, log, state, programs):
        place.mkdir(parents=True, exist_ok=True)
    _mount(*_MEMORY, str(etc))
    _run("cp", "-a", "/etc/.", str(etc))
    _run("rm", "-rf", *(str(etc / name) for name in _SERVICES))
    _mount("--bind", paths.OPT, str(programs))
    for source, seen in ((etc, "/etc"), (log, "/var/log"), (state, paths.VAR)):
        _mount("--bind", str(source), seen)
    for seen in ("/run", paths.OPT):
        _mount(*_MEMORY, seen)
    Path(paths.RUN).mkdir()
    for seen in READ_ONLY:
        _mount("--bind", seen, seen)
        _mount("-o", "remount,bind,ro", seen)
    for environment in (paths.OPENSTACK_VENV, paths.CLI_VENV):
        Path(environment).mkdir()
        _mount("--bind", str(programs / Path(environment).name), environment)
        _mount("-o", "remount,bind,ro", environment)


def rehearsed(work: Sequence[Task]) -> list[Task]:
    """Return the tasks that migrate databases, with all that they wait for; pure."""
    by_key = {task.key: task for task in work}
    chosen: dict[str, Task] = {}
    waiting = [task for task in work if task.stage.phase == _PHASE]
    while waiting:
        task = waiting.pop()
        chosen[task.key] = task
        waiting += [by_key[key] for key in task.after if key not in chosen]
    return [task for task in work if task.key in chosen]


def dismiss(machine: Machine) -> None:
    """Remove the accounts, whose passwords nobody needs any more, and stop the database in good order."""
    drop = "".join(f"DROP USER '{user}'@'localhost';\n" for user in DATABASES)
    run_sql(machine, settings_of(machine), drop)
    machine.backend.stop_all(machine.records.services(), lambda service: machine.say(f"Stopped {service.name}"))
    machine.backend.finish()


def tell(event: Event) -> None:
    """Print an event; what cures a stage of ``up`` cures its rehearsal after one more step."""
    print_event(replace(event, cure=_CURE) if event.cure else event)


def _mount(*words: str) -> None:
    _run("mount", *words)


def _run(*line: str) -> None:
    subprocess.run(line, check=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Leave migrated databases below the directory's ``state``; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m dockstack.deploy.baking.rehearsal")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--environment", default=paths.ENVIRONMENT_FILE)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    options = parser.parse_args(argv)
    assignments = (*options.assignments, *SETTINGS)
    node = inventory.load(options.environment, assignments, saved_options=paths.SAVED_OPTIONS).local
    cover(options.directory)
    secrets = Secrets(paths.SECRETS_FILE)
    status = carry_out(node, rehearsed(tasks(node, node_stages(node))), secrets, tell)
    if not status:
        dismiss(Machine(node, secrets, Manifest(paths.STATE_DIRECTORY), connect(node)))
    return status


if __name__ == "__main__":
    sys.exit(main())
