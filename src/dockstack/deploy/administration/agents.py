# SPDX-License-Identifier: Apache-2.0
"""What Neutron has of one compute host: its agents, and with OVN the chassis behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.administration.api import ApiError, NotThereError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from dockstack.deploy.administration.api import Cloud

PATIENCE = 30.0  # seconds until each of Neutron's processes has forgotten a chassis
POLL = 2.0


@dataclass(frozen=True)
class Agent:
    """An agent of Neutron's; with OVN, one that it derives from a chassis."""

    id: str
    kind: str
    alive: bool


def agents(cloud: Cloud, host: str) -> list[Agent]:
    """Return the agents of a host."""
    found = cloud.network.call("GET", "/agents", query={"host": host})["agents"]
    return [Agent(str(each["id"]), str(each["agent_type"]), bool(each["alive"])) for each in found]


def forget(cloud: Cloud, host: str) -> list[Agent]:
    """Have Neutron forget the agents of a host that is gone, and OVN its chassis; return what stays in spite of that.

    Neutron deletes Chassis and Chassis_Private with an agent, if ovn-controller has not done so at its end. Its
    processes hear of that one after the other, so that one is asked again.
    """
    left: list[Agent] = []
    refusals: list[ApiError] = []

    def forgotten() -> bool:
        refusals.clear()
        left[:] = agents(cloud, host)
        for agent in left:
            try:
                cloud.network.call("DELETE", f"/agents/{agent.id}")
            except NotThereError:
                continue
            except ApiError as error:
                if not error.status:
                    raise
                refusals.append(error)
        return not left

    if not wait_for(forgotten, PATIENCE, POLL) and refusals:
        raise refusals[0]
    return left
