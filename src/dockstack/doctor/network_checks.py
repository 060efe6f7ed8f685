# SPDX-License-Identifier: Apache-2.0
"""Checks of a machine's switch, its place in OVN and its names; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dockstack.deploy.join.probes.apis import OVERHEADS
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.cloud_document import names_loopback
from dockstack.doctor.model import Finding, Mend
from dockstack.verify.host import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.doctor.host import HostFacts
    from dockstack.doctor.machine import Subject

AGENT = "neutron-openvswitch-agent"
UNPLUGGED = "it is being unplugged, or its server is gone; see the check leftovers"


def switch(subject: Subject) -> Iterator[Finding]:
    """Whether it answers, has the bridge for servers, and can use its ports."""
    maker = AGENT if AGENT in subject.facts.active else "ovn-controller"
    for host in subject.hosts:
        if not host.switch:
            yield Finding(
                f"Open vSwitch does not answer{_on(host)}.",
                "See `dockstack logs ovsdb` and `dockstack logs ovs-vswitchd`; `dockstack up` starts them.",
            )
            continue
        if BRIDGE not in host.bridges:
            yield Finding(
                f"There is no bridge {BRIDGE}{_on(host)}.",
                f"{maker} makes it: see `dockstack logs {maker}`.",
            )
        for port in host.interfaces:
            if port.error:
                yield Finding(f"The switch cannot use {port.name}{_on(host)}: {port.error}", f"Perhaps {UNPLUGGED}.")
    if subject.facts.datapath == "netdev":
        yield Finding(
            "The kernel has no Open vSwitch module, so packets pass through a process (netdev).",
            "Nothing is to be done; with the module, networks are faster.",
            note=True,
        )


def names(subject: Subject) -> Iterator[Finding]:
    """Whether Nova, Open vSwitch and the machine have one name, letter by letter."""
    if subject.facts.hostname.partition(".")[0] == "localhost":
        yield Finding(
            f"The machine calls itself {subject.facts.hostname}.", "Give it a name: hostnamectl set-hostname NAME"
        )
    for host in subject.hosts:
        ovn, nova = host.settings.get("hostname", ""), host.nova or subject.facts.hostname
        if host.switch and ovn != nova:
            line = f"ovs-vsctl --timeout=10 set Open_vSwitch . external-ids:hostname={shlex.quote(nova)}"
            yield Finding(
                f"OVN knows {'the machine' if not host.key else host.key} as {ovn or 'nothing'}, Nova as {nova}.",
                f"Have both be one: {line}",
                mend=Mend(line, lambda host=host, line=line: subject.run(line, host.key)) if host.nova else None,  # type: ignore[misc]
            )
    machine = subject.hosts[0]
    if machine.nova and machine.nova != subject.facts.hostname:
        yield Finding(
            f"nova.conf says {machine.nova}, and the machine calls itself {subject.facts.hostname}.",
            f"Name it as before: hostnamectl set-hostname {shlex.quote(machine.nova)}",
        )


def ovn(subject: Subject) -> Iterator[Finding]:
    """Whether ovn-controller speaks to OVN's southbound database, and others find its tunnels."""
    if AGENT in subject.facts.active:
        return  # this switch is not OVN's
    for host in subject.hosts:
        if not host.switch:
            continue
        if host.ovn != "connected":
            yield Finding(
                f"ovn-controller has no connection to OVN's southbound database{_on(host)}: "
                f"{host.ovn or 'it does not answer'}.",
                f"See `dockstack logs {_service(host, 'ovn-controller')}`; "
                f"the database is {host.settings.get('ovn-remote', 'not named')}.",
            )
        end = host.settings.get("ovn-encap-ip", "")
        if names_loopback(end) and subject.facts.ours and not subject.facts.controller:
            yield Finding(
                f"Tunnels to this node end at {end}, where no other machine reaches them.",
                "Set network.encap_ip for it to its address towards the cloud, and run `dockstack node add`.",
            )


def mtu(subject: Subject) -> Iterator[Finding]:
    """Whether tunnels have room for the largest network's packets."""
    for host in subject.hosts:
        end = host.settings.get("ovn-encap-ip", "")
        needed = subject.largest_mtu + OVERHEADS.get(host.settings.get("ovn-encap-type", "").partition(",")[0], 0)
        found = host.mtus.get(end, 0)
        if subject.largest_mtu and found and found < needed:
            yield Finding(
                f"The device of {end}{_on(host)}, where tunnels end, has an MTU of {found}; the cloud's largest "
                f"network needs {needed}.",
                f"Raise it to {needed} on all hosts and switches between, or lower Neutron's (global_physnet_mtu).",
                note=names_loopback(end),
            )


def reach(subject: Subject) -> Iterator[Finding]:
    """What the machine must reach of the cloud."""
    if subject.facts.silent:
        yield Finding(
            f"No answer from here: {', '.join(subject.facts.silent)}.",
            "Check the cloud document (`dockstack cloud check`), and routes and firewalls in between.",
        )


def _service(host: HostFacts, name: str) -> str:
    return hosts.service_name(host.key, name) if host.key else name


def _on(host: HostFacts) -> str:
    return f" (host {host.key})" if host.key else ""
