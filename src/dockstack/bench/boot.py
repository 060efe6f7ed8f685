# SPDX-License-Identifier: Apache-2.0
"""``bench boot``: servers beside their floors, interleaved, so that a noisy moment hits all of them alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dockstack.bench.fixture import Wishes, standing
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import Boot, Measurements, RawRun
from dockstack.bench.servers import time_burst, time_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.bench.fixture import Ground


P = ParamSpec("P")
T = TypeVar("T")

# Before each sample. Neutron gathers events for Nova for a second after it has sent some ([nova] send_events_interval),
# and each costs a boot that it falls into some 0.3 s. Right after a delete, a boot is spared the event of its own port,
# which comes later: the kind that is measured second would always be.
REST_SECONDS = 3.0


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    count: int
    burst: int
    warm_up: int
    wishes: Wishes


def measure(connection: Any, plan: Plan, say: Callable[[str], None]) -> Measurements:
    """Measure boots, deletes and bursts beside the fake driver and the bare engine; leave nothing behind.

    Raises:
        DockstackError: the cloud does not have what the plan names, or a server failed.
    """
    machine = describe_machine()
    with standing(connection, plan.wishes, say) as ground:
        server, floor, raw = interleave(connection, plan, ground, say)
        say("burst")
        burst = floor_burst = None
        if plan.burst:
            burst = rested(
                time_burst, connection, ground.server, "burst", plan.burst, lambda text: say(f"burst: {text}")
            )
        if plan.burst and ground.floor:
            floor_burst = rested(
                time_burst,
                connection,
                ground.floor,
                "floor-burst",
                plan.burst,
                lambda text: say(f"burst of the floor: {text}"),
            )
        if ground.engine:
            machine["engine"] = ground.engine.version
        return Measurements(
            tuple(server), tuple(raw), tuple(floor), burst, floor_burst, ground.floor_reason, ground.raw_reason, machine
        )


def rested(take: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Take a sample from rest."""
    time.sleep(REST_SECONDS)
    return take(*arguments, **named)


def interleave(
    connection: Any, plan: Plan, ground: Ground, say: Callable[[str], None]
) -> tuple[list[Boot], list[Boot], list[RawRun]]:
    """Take one sample of each kind a round, each from rest; the rounds of the warm-up are thrown away."""
    server: list[Boot] = []
    floor: list[Boot] = []
    raw: list[RawRun] = []
    for number in range(-plan.warm_up, plan.count):
        say(f"warm-up {number + plan.warm_up + 1}" if number < 0 else f"round {number + 1} of {plan.count}")
        boot = rested(time_server, connection, ground.server, f"server-{number}")
        fake = rested(time_server, connection, ground.floor, f"floor-{number}") if ground.floor else None
        bare = ground.engine.time_run(ground.raw_image) if ground.engine else None
        if number >= 0:
            server.append(boot)
            floor += [fake] if fake else []
            raw += [bare] if bare else []
    return server, floor, raw
