# SPDX-License-Identifier: Apache-2.0
"""``bench boot``: servers beside both baselines, interleaved, so that a noisy moment hits all of them alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dockstack.bench.fixture import Request, set_up
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import Boot, EngineRun, Measurements
from dockstack.bench.servers import time_burst, time_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.bench.fixture import Fixture


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
    request: Request


def measure(connection: Any, plan: Plan, say: Callable[[str], None]) -> Measurements:
    """Measure boots, deletes and bursts beside the fake driver and the bare engine; leave nothing behind.

    Raises:
        DockstackError: the cloud does not have what the plan names, or a server failed.
    """
    machine = describe_machine()
    with set_up(connection, plan.request, say) as fixture:
        server, floor, raw = interleave(connection, plan, fixture, say)
        say("burst")
        burst = floor_burst = None
        if plan.burst:
            burst = rested(
                time_burst, connection, fixture.server, "burst", plan.burst, lambda text: say(f"burst: {text}")
            )
        if plan.burst and fixture.baseline:
            floor_burst = rested(
                time_burst,
                connection,
                fixture.baseline,
                "floor-burst",
                plan.burst,
                lambda text: say(f"burst of the floor: {text}"),
            )
        if fixture.engine:
            machine["engine"] = fixture.engine.version
        return Measurements(
            tuple(server),
            tuple(raw),
            tuple(floor),
            burst,
            floor_burst,
            fixture.baseline_reason,
            fixture.engine_reason,
            machine,
        )


def rested(take: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Take a sample from rest."""
    time.sleep(REST_SECONDS)
    return take(*arguments, **named)


def interleave(
    connection: Any, plan: Plan, fixture: Fixture, say: Callable[[str], None]
) -> tuple[list[Boot], list[Boot], list[EngineRun]]:
    """Take one sample of each kind a round, each from rest; the rounds of the warm-up are thrown away."""
    server: list[Boot] = []
    floor: list[Boot] = []
    raw: list[EngineRun] = []
    for number in range(-plan.warm_up, plan.count):
        say(f"warm-up {number + plan.warm_up + 1}" if number < 0 else f"round {number + 1} of {plan.count}")
        boot = rested(time_server, connection, fixture.server, f"server-{number}")
        fake = rested(time_server, connection, fixture.baseline, f"floor-{number}") if fixture.baseline else None
        bare = fixture.engine.time_run(fixture.engine_image) if fixture.engine else None
        if number >= 0:
            server.append(boot)
            floor += [fake] if fake else []
            raw += [bare] if bare else []
    return server, floor, raw
