# SPDX-License-Identifier: Apache-2.0
"""Look at one machine over SSH: what would change on it, and what it would be told; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.join import engine_choice, look
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.node_certificate import NodeCertificates
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.node.connection import connect

if TYPE_CHECKING:
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.join.commission import Commission
    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node


@dataclass(frozen=True)
class Survey:
    """What came of looking.

    Attributes:
        plan: what would change, or what keeps the machine from it.
        told: the machine's commission.
        distribution: the machine's.
    """

    plan: NodePlan
    told: Commission
    distribution: Distribution


def survey(node: Node, cloud: CloudDocument) -> Survey:
    """Look at a machine.

    Raises:
        DockstackError: it cannot be reached, or does not answer.
    """
    connection = connect(node)
    node = engine_choice.settled(node, engine_choice.ask(connection), cloud)
    joining = Joining(node, cloud)
    facts = look.gather(connection, joining.questions(look.os_release(connection)))
    address = joining.settings(facts).tunnel_address
    cloud = NodeCertificates().given(cloud, node.name, facts.hostname, address)
    joining = Joining(node, cloud)
    return Survey(
        plan=joining.plan(facts, look.read(connection, joining.paths(facts))),
        told=commission(node, cloud, address),
        distribution=look.or_debian(facts.machine.distribution),
    )
