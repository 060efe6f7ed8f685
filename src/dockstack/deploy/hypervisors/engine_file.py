# SPDX-License-Identifier: Apache-2.0
"""The engine's daemon.json on a machine: our keys are put in, and taken out again as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.hypervisors import daemon_json, storage
from dockstack.deploy.hypervisors.engine import PIDFILE, engine_of

if TYPE_CHECKING:
    from dockstack.deploy.hypervisors.daemon_json import Wanted
    from dockstack.deploy.hypervisors.engine import Engine
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.attributes import Attributes

RUNTIME = "dockstack"
DISPATCHER = f"{paths.RUNTIME_DIRECTORY}/dockstack-runtime"
BEFORE = "daemon-json-before"  # the one-time record of what our keys were
LIVE_RESTORE_BY_FLAG = (
    f"pid=$(cat {PIDFILE}) && grep -qx dockerd /proc/$pid/comm"
    " && grep -qzxE -e '--live-restore(=true)?' /proc/$pid/cmdline"
)


def wanted_keys(attributes: Attributes) -> Wanted:
    """Return what the file has to say for servers."""
    engine, volume = engine_of(attributes), storage.wanted(attributes)
    return daemon_json.Wanted(
        RUNTIME,
        DISPATCHER,
        data_root=None if engine.default_root else engine.data_root,
        storage_driver=volume.file_system.driver if volume else None,
    )


def place(machine: Machine, engine: Engine, wanted: Wanted) -> None:
    """Have our keys in the file; what it was like is kept beside it."""
    path = engine.daemon_json
    text = machine.read(path)
    # What a flag has switched on must not stand in the file, too: the engine would not start again.
    by_flag = not engine.own and machine.run(LIVE_RESTORE_BY_FLAG, check=False).ok
    merged = daemon_json.merge(text, replace(wanted, live_restore=not by_flag), path)
    if merged == text:
        return
    machine.directory(path.rpartition("/")[0])
    if machine.manifest.done(BEFORE) is None:
        machine.manifest.set_done(BEFORE, daemon_json.before(text, wanted, path))
        if text is not None:
            machine.run(["cp", "-a", path, _saved(path)])
    machine.file(path, merged, claim=False)


def put_back(machine: Machine, engine: Engine, wanted: Wanted) -> bool:
    """Have our keys as they were before; return whether they were ours at all."""
    kept = machine.manifest.done(BEFORE)
    if kept is None:
        return False
    path = engine.daemon_json
    restored = daemon_json.restore(machine.read(path), kept, wanted, path)
    if restored is None:
        machine.absent(path)
    else:
        machine.file(path, restored, claim=False)
    machine.absent(_saved(path))
    return True


def _saved(path: str) -> str:
    return f"{path}.before-dockstack"
