# SPDX-License-Identifier: Apache-2.0
"""Checks of a cloud, asked as its administrator; they judge, and change nothing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dockstack.deploy.join.probes import releases
from dockstack.doctor.model import Finding, Mend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockstack.doctor.cloud import Cloud, Image, Service

COMPUTE = "nova-compute"
DOCKER = "docker"
FORMATS = ("docker", "dockerref")  # what no other hypervisor could boot
IDLE = 900.0  # seconds after which a task that nothing changed is worked on by nobody
CHASSIS = ("OVN Controller agent", "OVN Controller Gateway agent")
NAMED = 5


def services(cloud: Cloud) -> Iterator[Finding]:
    """Nova's services."""
    yield from _down(cloud.services, "service")
    for each in cloud.services:
        if not each.enabled:
            line = f"openstack compute service set --enable {shlex.join([each.host, each.binary])}"
            yield Finding(
                f"{each.binary} on {each.host} is disabled: {each.reason or 'no reason was given'}.",
                f"New servers go elsewhere; or: {line}",
                note=True,
            )


def agents(cloud: Cloud) -> Iterator[Finding]:
    """Neutron's agents, OVN's chassis among them."""
    yield from _down(cloud.agents, "agent")


def chassis(cloud: Cloud) -> Iterator[Finding]:
    """Whether each compute host is a chassis of OVN, by the same name."""
    known = {agent.host for agent in cloud.agents if agent.binary in CHASSIS}
    for each in cloud.services:
        if known and each.binary == COMPUTE and each.up and each.host not in known:
            near = next((host for host in known if host.partition(".")[0] == each.host.partition(".")[0]), "")
            yield Finding(
                f"OVN has no chassis called {each.host}{f', but one called {near}' if near else ''}.",
                "Have host in its nova.conf and external-ids:hostname in its Open vSwitch be one: see "
                f"`dockstack doctor --host {shlex.quote(each.host)}`.",
            )


def providers(cloud: Cloud) -> Iterator[Finding]:
    """Whether each hypervisor is one of Placement's providers."""
    for name in sorted(set(cloud.hypervisors) - cloud.providers):
        yield Finding(
            f"Placement has no provider {name}.",
            "See nova-compute's log there: its account for Placement, its name, an old provider of that name.",
        )
    known = {each.host for each in cloud.services} | set(cloud.hypervisors)
    for name in sorted(cloud.providers & {each.host for each in cloud.agents} - known):
        yield Finding(
            f"Placement has a provider {name}, which is no compute host any more.",
            f"openstack resource provider delete UUID (`openstack resource provider list --name {shlex.quote(name)}`)",
        )


def versions(cloud: Cloud) -> Iterator[Finding]:
    """Whether the cloud's release is one that this dockstack knows."""
    newest = cloud.microversion
    if not releases.release_of(newest):
        yield Finding(
            f"The compute API goes up to {newest[0]}.{newest[1]}, which is newer than all that this dockstack knows.",
            "Use a newer dockstack before nodes are added.",
        )


def images(cloud: Cloud) -> Iterator[Finding]:
    """Images that could land on a hypervisor which cannot boot them, where there are several kinds."""
    kinds = set(cloud.hypervisors.values())
    if DOCKER not in kinds or len(kinds) < 2:  # noqa: PLR2004
        return
    nameless = [image for image in cloud.images if not image.hypervisor]
    for image in nameless:
        if image.container_format in FORMATS:
            yield _ours(cloud, image)
    others = [image for image in nameless if image.container_format not in FORMATS]
    if others:
        yield Finding(
            f"{len(others)} images of virtual machines bear no img_hv_type, and hosts are of {_list(sorted(kinds))}: "
            f"{_list(f'{image.name} ({image.id})' for image in others)}.",
            "openstack image set --property img_hv_type=kvm IMAGE (qemu where it is emulated), or aggregates that keep "
            "them apart (docs/nodes.md).",
        )


def _ours(cloud: Cloud, image: Image) -> Finding:
    line = f"openstack image set --property img_hv_type={DOCKER} {shlex.quote(image.id)}"
    return Finding(
        f"The container image {image.name} ({image.id}) bears no img_hv_type.",
        line,
        mend=Mend(line, lambda: cloud.claim_image(image)),
    )


def tasks(cloud: Cloud) -> Iterator[Finding]:
    """Servers whose task nobody works on."""
    for each in cloud.servers:
        if each.idle > IDLE and (each.task or each.status == "BUILD"):
            yield Finding(
                f"Server {each.id} on {each.host or 'no host'} is {each.status}"
                f"{f', its task {each.task}' if each.task else ''}, unchanged for {each.idle / 60:.0f} min.",
                "Is nova-compute up there? Then a hard reboot, after "
                f"openstack server set --state error {shlex.quote(each.id)}",
            )


def _down(found: Iterable[Service], kind: str) -> Iterator[Finding]:
    for each in found:
        if not each.up:
            yield Finding(
                f"The {kind} {each.binary} on {each.host} is down.",
                f"See `dockstack status` and its log on {each.host}. Is that host gone for good? Delete the {kind}.",
            )


def _list(items: Iterable[str]) -> str:
    found = list(items)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
