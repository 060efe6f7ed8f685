# SPDX-License-Identifier: Apache-2.0
"""The mount broker of a node, and what keeps its sockets and listeners while it is away (docs/adr/0025); pure."""

from __future__ import annotations

from dockstack.deploy import paths
from dockstack.deploy.configuration.programs import PYTHON_ENVIRONMENT
from dockstack.deploy.supervision.services import Check, CheckKind, Service
from dockstack.names import MOUNT_SOCKET

HOLDER = "mount-holder"
BROKER = "mount-broker"
HOLDER_PROGRAM = f"{paths.OPENSTACK_VENV}/bin/dockstack-mount-holder"
BROKER_PROGRAM = f"{paths.OPENSTACK_VENV}/bin/dockstack-mount-broker"
OURS = ((HOLDER_PROGRAM,), (BROKER_PROGRAM,))


def services(programs: tuple[tuple[str, ...], tuple[str, ...]] = OURS) -> tuple[Service, ...]:
    """Return both, in the order of their start.

    Args:
        programs: the command of each, in an environment that has the driver.

    An upgrade restarts the broker alone: what the holder keeps cannot be had again. When it is stopped while servers
    need it, it leaves a child that goes on until the next holder has taken over, as an engine leaves its shims.
    """
    return (
        Service(
            name=HOLDER,
            title="What servers' mounts need while the broker is away",
            command=programs[0],
            environment=PYTHON_ENVIRONMENT,
            check=Check(CheckKind.COMMAND, command=("test", "-S", str(MOUNT_SOCKET))),
            kill_mode="process",
            oom_score=-900,
        ),
        Service(
            name=BROKER,
            title="Mounts of volumes within servers",
            command=programs[1],
            environment=PYTHON_ENVIRONMENT,
            watch=(paths.LOCK_MARKER, paths.DRIVER_MARKER),
            oom_score=-500,
        ),
    )
