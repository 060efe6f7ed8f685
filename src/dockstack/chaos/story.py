# SPDX-License-Identifier: Apache-2.0
"""Draw a story from its seed: same seed and wishes, same story; pure.

Each slot and the kills have a generator of their own. Nothing that happens while a story is told changes a later draw.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dockstack.chaos import states
from dockstack.chaos.model import GONE, Act, Action, Kill, Story, Victim, Wishes
from dockstack.chaos.states import drawable, lead
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTS_A_MINUTE = 20  # for each slot: more than any machine does, so that no slot's story ends before its time
FIRST_KILL = 5.0  # seconds, in which the first servers are asked for
LONGEST_PAUSE = 2.0
LONGEST_AWAY = 5.0

# Of every state but ACTIVE the way back is drawn more often than all else: a story of stopped servers says little.
WEIGHTS = {
    Action.DELETE: 1.0,
    Action.SNAPSHOT: 1.0,
    Action.REBUILD: 1.0,
    Action.REBOOT_HARD: 2.0,
    Action.MIGRATE: 3.0,
    Action.RESIZE: 2.0,
}
WAY_BACK = frozenset(
    {Action.START, Action.UNPAUSE, Action.RESUME, Action.UNSHELVE, Action.CONFIRM, Action.REVERT, Action.UNRESCUE}
)
VICTIMS = {
    Victim.COMPUTE: 6,
    Victim.ENGINE: 5,
    Victim.CONTAINERD: 2,
    Victim.SHIM: 4,
    Victim.LXCFS: 2,
    Victim.SWITCH: 3,
    Victim.SWITCH_DATABASE: 1,
    Victim.CONTROLLER: 3,
    Victim.AGENT: 1,
    Victim.MIGRATION: 1,
    Victim.BUS: 3,
    Victim.DATABASE: 3,
    Victim.CONDUCTOR: 3,
    Victim.SCHEDULER: 2,
    Victim.NOVA_API: 1,
    Victim.NEUTRON_API: 2,
    Victim.PLACEMENT_API: 1,
    Victim.GLANCE_API: 1,
    Victim.KEYSTONE: 1,
    Victim.NORTHD: 1,
    Victim.SOUTHBOUND: 1,
    Victim.VOLUMES: 3,
    Victim.MOUNTS: 3,
    Victim.HOST: 2,
}
ON_EACH_HOST = frozenset(
    {
        Victim.COMPUTE, Victim.ENGINE, Victim.CONTAINERD, Victim.LXCFS, Victim.SWITCH, Victim.SWITCH_DATABASE,
        Victim.CONTROLLER, Victim.AGENT, Victim.MIGRATION, Victim.MOUNTS,
    }
)  # fmt: skip
TWO_HOSTS = frozenset({Victim.HOST, Victim.MIGRATION})
OF_VOLUMES = frozenset({Victim.VOLUMES, Victim.MOUNTS})


def draw(wishes: Wishes) -> Story:
    """Draw all decisions of a run."""
    acts = tuple(tuple(_draw_acts(wishes, slot)) for slot in range(wishes.servers))
    return Story(wishes, acts, tuple(_draw_kills(wishes)))


def describe(story: Story) -> Iterator[str]:
    """Tell a story, a decision a line."""
    for kill in story.kills:
        yield f"+{kill.at:6.1f} s  kill {name_victim(kill)}"
    for acts in story.acts:
        for act in acts:
            yield f"server {act.slot}, decision {act.number}: {act.action.value} after {act.pause:.1f} s"


def name_victim(kill: Kill) -> str:
    """Say what is killed."""
    if kill.victim is Victim.SHIM:
        return f"the shim of server {kill.slot}"
    if kill.victim is Victim.HOST:
        return f"all of host {kill.host}, which stays away for {kill.away:.1f} s"
    return f"{kill.victim.value} on host {kill.host}" if kill.victim in ON_EACH_HOST else kill.victim.value


def _draw_acts(wishes: Wishes, slot: int) -> Iterator[Act]:
    dice = random.Random(f"{wishes.seed}/slot/{slot}")  # noqa: S311 - repeatable on purpose
    status, attached, has_volume = GONE, False, False
    for number in range(max(1, round(wishes.minutes * ACTS_A_MINUTE))):
        useless = {Action.ATTACH if attached else Action.DETACH}
        useless |= {Action.VOLUME_ATTACH} if has_volume else states.OF_VOLUMES - {Action.VOLUME_ATTACH}
        allowed = drawable(status, wishes.hosts, volumes=wishes.volumes)
        choice = [action for action in allowed if action not in useless]
        action = dice.choices(choice, [_weigh(each, status) for each in choice])[0]
        yield Act(number, slot, action, round(dice.uniform(0, LONGEST_PAUSE), 2))
        attached = (attached or action is Action.ATTACH) and action not in (Action.DETACH, Action.DELETE)
        has_volume = (has_volume or action is Action.VOLUME_ATTACH) and action not in (
            Action.VOLUME_DETACH,
            Action.DELETE,
        )
        status = lead(action, status)


def _weigh(action: Action, status: str) -> float:
    if action in WAY_BACK and status != "ACTIVE":
        return 8.0
    return WEIGHTS.get(action, 1.5)


def _draw_kills(wishes: Wishes) -> Iterator[Kill]:
    dice = random.Random(f"{wishes.seed}/kills")  # noqa: S311 - repeatable on purpose
    last = max(wishes.minutes * 60, FIRST_KILL + 1)
    moments = sorted(round(dice.uniform(FIRST_KILL, last), 1) for _ in range(wishes.kills))
    wanted = wishes.victims or tuple(VICTIMS)
    absent = (TWO_HOSTS if wishes.hosts == 1 else frozenset()) | (frozenset() if wishes.volumes else OF_VOLUMES)
    victims = [victim for victim in VICTIMS if victim in wanted and victim not in absent]
    if not victims:
        raise DockstackError(
            f"There is no {' or '.join(wanted)} to be killed here.",
            "Bring up two hosts: dockstack up --hosts 2; or volumes: dockstack up --set volumes.enable=true.",
        )
    weights = [VICTIMS[victim] for victim in victims]
    for number, at in enumerate(moments):
        victim = dice.choices(victims, weights)[0]
        host = dice.randrange(wishes.hosts) if victim in ON_EACH_HOST else 0
        slot = dice.randrange(wishes.servers) if victim is Victim.SHIM else 0
        if victim is Victim.HOST:  # the machine itself holds the cloud and us
            yield Kill(
                number, at, victim, dice.randrange(1, wishes.hosts), away=round(dice.uniform(0, LONGEST_AWAY), 1)
            )
        else:
            yield Kill(number, at, victim, host, slot)
