# SPDX-License-Identifier: Apache-2.0
"""Every exercise there is, in the order of a run: the Docker exercise first, because the rest builds on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.errors import DockstackError
from dockstack.verify.exercises import (
    access,
    boot,
    consoles,
    copies,
    identity,
    interfaces,
    isolation,
    limits,
    networks,
    power,
    registry,
    rescue,
    resize,
    system,
    volumes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.verify.context import Exercise

ALL: tuple[Exercise, ...] = (
    boot.DOCKER,
    access.LOGIN,
    access.METADATA,
    access.USER_DATA,
    access.CONSOLE_LOG,
    identity.CONFIG_DRIVE,
    identity.PASSWORD,
    consoles.SERIAL_CONSOLE,
    consoles.VNC_CONSOLE,
    networks.SECURITY_GROUPS,
    networks.FLOATING_IP,
    networks.NEIGHBOURS,
    networks.DNS_AND_ROUTE,
    networks.IPV6,
    power.SOFT_REBOOT,
    power.HARD_REBOOT,
    power.STOP_START,
    power.PAUSE,
    copies.REBUILD,
    copies.SNAPSHOT,
    copies.SHELVE,
    power.SUSPEND,
    interfaces.INTERFACES,
    rescue.RESCUE,
    limits.LIMITS,
    limits.VIEW,
    resize.RESIZE,
    system.SYSTEM,
    registry.REGISTRY,
    registry.REFERENCE,
    volumes.VOLUME,
    volumes.EXTEND,
    volumes.ROOT,
    volumes.ENCRYPTED,
    isolation.ISOLATION,
    boot.NO_LEFTOVERS,
)


def choose(names: Sequence[str]) -> tuple[Exercise, ...]:
    """Return the named exercises in the order of a run; all if none is named.

    Raises:
        DockstackError: there is no exercise of that name.
    """
    known = [exercise.name for exercise in ALL]
    for name in names:
        if name not in known:
            raise DockstackError(f"There is no exercise {name!r}.", f"There are: {', '.join(known)}.")
    return tuple(exercise for exercise in ALL if not names or exercise.name in names)
