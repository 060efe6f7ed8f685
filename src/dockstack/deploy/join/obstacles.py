# SPDX-License-Identifier: Apache-2.0
"""What keeps a machine from becoming a compute node; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.run import preflight
from dockstack.deploy.run.preflight import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dockstack.deploy.join.look import NodeFacts
    from dockstack.deploy.wanted.inventory import Node

MOST_CLOCK = 5.0  # seconds apart; tokens and Neutron's agents suffer from more


def problems(node: Node, facts: NodeFacts, *, ovn: bool = True) -> Iterator[Problem]:
    """Yield what keeps one machine from joining a cloud, one with OVN or without; each names what it is."""
    yield from preflight.problems(node, facts.machine)
    if facts.controller:
        yield Problem(
            "This machine holds a cloud that `dockstack up` made, with a compute host of its own.",
            "Use another one, or remove that cloud first: dockstack clean",
        )
    elif facts.nova_compute and not facts.ours:
        yield Problem(
            "A nova-compute runs here that is not ours.",
            "A machine has one hypervisor: take it out of the group that its deployer puts compute nodes into.",
        )
    if facts.hostname.partition(".")[0] == "localhost":
        yield Problem(f"The machine calls itself {facts.hostname}.", "Give it a name: hostnamectl set-hostname NAME")
    if ovn and facts.chassis and facts.chassis != facts.hostname:
        yield Problem(
            f"OVN knows this machine as {facts.chassis}, Nova would as {facts.hostname}: Neutron would refuse ports.",
            "Have both be one, letter by letter: ovs-vsctl set Open_vSwitch . external-ids:hostname=NAME",
        )
    if facts.servers and not facts.ours:
        yield Problem(
            f"The engine still has {facts.servers} Docker servers, which a new compute service would not know.",
            "Are they another cloud's? Delete them there, or here: docker rm -f, label org.openstack.nova.uuid.",
        )
    if facts.silent:
        yield Problem(
            f"No answer from here: {', '.join(facts.silent)}.",
            "Check the cloud document, and routes and firewalls in between.",
        )
    if abs(facts.clock) > MOST_CLOCK:
        where = "ahead of" if facts.clock > 0 else "behind"
        yield Problem(f"Its clock is {abs(facts.clock):.0f} s {where} this machine's.", "Have both keep time (chrony).")


def clones(chassis: Mapping[str, str]) -> dict[str, Problem]:
    """Return a problem for each node whose switch has the number of another's, as copies of one image have.

    Args:
        chassis: by which number OVN knows the machine of each node.
    """
    found = {}
    for name, number in chassis.items():
        same = [other for other, known in chassis.items() if known == number]
        if len(same) > 1:
            found[name] = Problem(
                f"The switches of {', '.join(same)} are all the chassis {number}: each would take the others' servers "
                "off the network.",
                "Give each its own: remove /etc/openvswitch/system-id.conf there, have its deployer run again, and "
                "delete the chassis that is left over in OVN (ovn-sbctl chassis-del).",
            )
    return found


def namesakes(hostnames: Mapping[str, str]) -> dict[str, Problem]:
    """Return a problem for each node whose machine calls itself as another one does.

    Args:
        hostnames: what the machine of each node calls itself.
    """
    found = {}
    for name, hostname in hostnames.items():
        same = [other for other, called in hostnames.items() if called == hostname]
        if len(same) > 1:
            brief = f"{', '.join(same)} all call themselves {hostname}: Nova would take them for one."
            found[name] = Problem(brief, "Give each machine a name of its own, or name each machine once.")
    return found
