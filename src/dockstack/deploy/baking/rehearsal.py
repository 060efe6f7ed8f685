# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.baking.rehearsal``: migrate databases with the stages of ``up``, beside a running cloud.

It runs in mount and process namespaces of its own, where the directories of this machine's cloud are covered by empty
ones: the stages find a machine with all programs and without a cloud. So no secret and no row of this machine's cloud
can come into the databases, and nothing here is touched. The secrets that the stages make are thrown away, with the
accounts that have them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.settings import DATABASES, SERVICE_USERS
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.infrastructure import run_sql
from dockstack.deploy.run import teardown
from dockstack.deploy.run.apply import carry_out
from dockstack.deploy.run.plan import Task, node_stages, tasks
from dockstack.deploy.supervision.machine import Machine
from dockstack.deploy.wanted import inventory

if TYPE_CHECKING:
    from collections.abc import Sequence

# The databases of every cloud. What only some have is migrated when they come up.
SETTINGS = ("services.backend=supervisor", "tls.enable=false", "volumes.enable=false", "key_manager.enable=false")
NAMESPACES = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc")
STATE = "state"  # what is seen as /var/lib/dockstack, below the directory that is given
_PHASE = "databases"
_MEMORY = ("-t", "tmpfs", "-o", "mode=755", "tmpfs")
_SERVICES = (*SERVICE_USERS, "cinder", "barbican", "dockstack", "openstack")  # that have a directory in /etc


def cover(directory: Path) -> None:
    """Have empty directories in the place of the cloud's, a copy of /etc without it, and its programs as they are."""
    etc, log, state, programs = (directory / name for name in ("etc", "log", STATE, "programs"))
    for place in (etc, log, state, programs, Path(paths.RUN)):
        place.mkdir(parents=True, exist_ok=True)
    _mount(*_MEMORY, str(etc))
    _run("cp", "-a", "/etc/.", str(etc))
    _run("rm", "-rf", *(str(etc / name) for name in _SERVICES))
    _mount("--bind", paths.OPT, str(programs))
    for source, seen in ((etc, "/etc"), (log, "/var/log"), (state, paths.VAR)):
        _mount("--bind", str(source), seen)
    for seen in (paths.RUN, paths.OPT):
        _mount(*_MEMORY, seen)
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
    teardown.down(machine)


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
    status = carry_out(node, rehearsed(tasks(node, node_stages(node))), secrets)
    if not status:
        dismiss(Machine(node, secrets, Manifest(paths.STATE_DIRECTORY), connect(node)))
    return status


if __name__ == "__main__":
    sys.exit(main())
