# SPDX-License-Identifier: Apache-2.0
"""Which action Nova allows in which state of a server, and the way back to ACTIVE; pure."""

from __future__ import annotations

from dockstack.chaos.model import GONE, Action

SAME = ""
SHELVED = ("SHELVED", "SHELVED_OFFLOADED")
RUNNING = ("ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED")
ANY = (*RUNNING, *SHELVED, "VERIFY_RESIZE", "RESCUE", "ERROR")

# action -> the states in which it is allowed, and what it leads to
ALLOWED: dict[Action, tuple[tuple[str, ...], str]] = {
    Action.CREATE: ((GONE,), "ACTIVE"),
    Action.DELETE: (ANY, GONE),
    Action.REBOOT_SOFT: (("ACTIVE",), SAME),
    Action.REBOOT_HARD: (RUNNING, "ACTIVE"),
    Action.STOP: (("ACTIVE",), "SHUTOFF"),
    Action.START: (("SHUTOFF",), "ACTIVE"),
    Action.PAUSE: (("ACTIVE",), "PAUSED"),
    Action.UNPAUSE: (("PAUSED",), "ACTIVE"),
    Action.SUSPEND: (("ACTIVE",), "SUSPENDED"),
    Action.RESUME: (("SUSPENDED",), "ACTIVE"),
    Action.REBUILD: (("ACTIVE", "SHUTOFF"), SAME),
    Action.SNAPSHOT: (RUNNING, SAME),
    Action.SHELVE: (("ACTIVE", "SHUTOFF"), "SHELVED_OFFLOADED"),
    Action.UNSHELVE: (SHELVED, "ACTIVE"),
    Action.RESIZE: (("ACTIVE",), "VERIFY_RESIZE"),
    Action.MIGRATE: (("ACTIVE",), "VERIFY_RESIZE"),
    Action.CONFIRM: (("VERIFY_RESIZE",), "ACTIVE"),
    Action.REVERT: (("VERIFY_RESIZE",), "ACTIVE"),
    Action.ATTACH: (("ACTIVE", "SHUTOFF", "PAUSED"), SAME),
    Action.DETACH: (("ACTIVE", "SHUTOFF", "PAUSED"), SAME),
    Action.VOLUME_ATTACH: (("ACTIVE", "SHUTOFF", "PAUSED"), SAME),
    Action.VOLUME_DETACH: (("ACTIVE", "SHUTOFF", "PAUSED"), SAME),
    Action.VOLUME_EXTEND: (("ACTIVE", "SHUTOFF"), SAME),
    Action.VOLUME_SNAPSHOT: (RUNNING, SAME),
    Action.RESCUE: (("ACTIVE", "SHUTOFF"), "RESCUE"),
    Action.UNRESCUE: (("RESCUE",), "ACTIVE"),
    Action.RECOVER: (("ERROR",), "ACTIVE"),
}
HOME = {
    GONE: Action.CREATE,
    "SHUTOFF": Action.START,
    "PAUSED": Action.UNPAUSE,
    "SUSPENDED": Action.RESUME,
    "SHELVED": Action.UNSHELVE,
    "SHELVED_OFFLOADED": Action.UNSHELVE,
    "VERIFY_RESIZE": Action.CONFIRM,
    "RESCUE": Action.UNRESCUE,
    "ERROR": Action.RECOVER,
}
TWO_HOSTS = frozenset({Action.MIGRATE})
OF_VOLUMES = frozenset({Action.VOLUME_ATTACH, Action.VOLUME_DETACH, Action.VOLUME_EXTEND, Action.VOLUME_SNAPSHOT})
SETTLED = frozenset({GONE, *ANY})
# In these, what a server's log says stays true: nothing is going to take the server back to older files.
KEEPING = frozenset(RUNNING)


def may(action: Action, status: str) -> bool:
    """Whether Nova allows an action in a state."""
    return status in ALLOWED[action][0]


def lead(action: Action, status: str) -> str:
    """Return the state that an action leads to."""
    return ALLOWED[action][1] or status


def drawable(status: str, hosts: int, *, volumes: bool = False) -> tuple[Action, ...]:
    """Return what a story may decide on a server in a state; ``volumes``: there are such."""
    return tuple(
        action
        for action in Action
        if action is not Action.RECOVER
        and may(action, status)
        and (hosts > 1 or action not in TWO_HOSTS)
        and (volumes or action not in OF_VOLUMES)
    )


def find_way(action: Action, status: str) -> tuple[Action, ...] | None:
    """Return the steps that carry out a decision on a server that may be in another state than the story thinks.

    Returns:
        The action alone where it is allowed; with a step to ACTIVE before it where it is allowed then; None if there is
        no sense in it.
    """
    if may(action, status):
        return (action,)
    if status in HOME and may(action, "ACTIVE") and action is not HOME[status]:
        return (HOME[status], action)
    return None
