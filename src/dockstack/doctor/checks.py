# SPDX-License-Identifier: Apache-2.0
"""All checks, in the order in which they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.doctor import (
    cloud_checks,
    controller_checks,
    engine_checks,
    leftover_checks,
    machine_checks,
    network_checks,
)
from dockstack.doctor.model import Check, Need

if TYPE_CHECKING:
    from dockstack.doctor.cloud import Cloud
    from dockstack.doctor.machine import Subject

_OURS = frozenset({Need.OURS})
_CLOUD = frozenset({Need.CLOUD})

MACHINE: tuple[Check[Subject], ...] = (
    # -- the machine ----------------------------------------------------------------------------------------------
    Check(
        "system",
        "The system is one that dockstack knows",
        "Packages, services and paths may be called otherwise, or something that servers need is not there.",
        machine_checks.preflight_about("system"),
    ),
    Check(
        "resources",
        "There is memory and disk for it",
        "Services would be killed, or an installation end half-way.",
        machine_checks.preflight_about("resources"),
    ),
    Check(
        "disks",
        "No file system is about to fill up",
        "Where it is full, servers cannot write, databases stop, and no image is fetched.",
        machine_checks.disks,
    ),
    Check(
        "cgroups",
        "The kernel can limit what servers use",
        "A server could take what is others', and Placement's numbers would mean nothing.",
        machine_checks.cgroups,
    ),
    Check(
        "clock",
        "The clock is right",
        "Tokens expire early, services count as down that are not, and logs cannot be compared.",
        machine_checks.clock,
    ),
    Check(
        "files",
        "Only who must can read files with secrets",
        "Who reads them can do in the cloud what its services can.",
        machine_checks.files,
        mends="takes away what everybody may (`chmod o=`)",
    ),
    Check(
        "foreign",
        "No OpenStack of others is here",
        "A machine has one hypervisor, and files of others are not touched: `up` and `node add` refuse it.",
        machine_checks.foreign,
    ),
    Check(
        "ports",
        "Nothing else uses the cloud's ports and networks",
        "A service would not start, or answers go to the wrong place.",
        machine_checks.preflight_about("ports"),
        frozenset({Need.HERE}),
    ),
    # -- the engine -----------------------------------------------------------------------------------------------
    Check(
        "engine",
        "The container engine answers",
        "Servers that run go on (live-restore); none can be started, stopped or seen.",
        engine_checks.answers,
    ),
    Check(
        "engine-settings",
        "Servers can run with the engine's settings",
        "`up` and `node add` refuse an engine that is set so; servers would not start, or stop with each restart.",
        engine_checks.settings,
    ),
    Check(
        "engine-version",
        "The engine is of a version that was tried",
        "What was never tried may work otherwise.",
        engine_checks.version,
    ),
    Check(
        "runtime",
        "The engine knows the servers' runtime, and keeps them over its restarts",
        "Servers would start without their network, which is refused, or stop whenever the engine is upgraded.",
        engine_checks.runtime,
        _OURS,
    ),
    Check(
        "socket",
        "Only its group speaks to the engine",
        "Who speaks to the engine is root on the machine, and on all servers.",
        engine_checks.socket,
        mends="takes away what everybody may (`chmod o=`)",
    ),
    Check(
        "limits",
        "The engine limits what it is asked to, and filters system calls",
        "A server could take what is others', or has more of the kernel within reach than it should.",
        engine_checks.limits,
    ),
    Check(
        "root-disks",
        "Each server is held to its flavor's disk",
        "One server may fill the disk of all.",
        engine_checks.root_disks,
        _OURS,
    ),
    # -- the services ---------------------------------------------------------------------------------------------
    Check(
        "services",
        "All services here run and answer",
        "What a service does is not done, or waits.",
        machine_checks.services,
        _OURS,
    ),
    Check(
        "driver",
        "Nova finds the driver",
        "nova-compute would not start the next time.",
        machine_checks.driver,
        _OURS,
    ),
    Check(
        "installation",
        "The services are those of this dockstack",
        "What its documentation says may not hold for them.",
        machine_checks.versions,
        _OURS,
    ),
    Check(
        "conductors",
        "No compute node is newer than Nova's conductors, nor too old for them",
        "A newer one speaks of what they do not know; beside one that is too old, no service of Nova starts again.",
        controller_checks.versions,
        frozenset({Need.CONTROLLER}),
    ),
    Check(
        "mapping",
        "Every compute host is mapped to a cell",
        "Nova places nothing on it.",
        controller_checks.mapping,
        frozenset({Need.CONTROLLER}),
    ),
    # -- the networks ---------------------------------------------------------------------------------------------
    Check(
        "switch",
        "Open vSwitch has the bridge and its ports",
        "Servers have no network; new ones end in ERROR.",
        network_checks.switch,
        _OURS,
    ),
    Check(
        "names",
        "Nova, OVN and the machine have one name for it",
        "If they differ, Neutron refuses every port (no OVN chassis for host); Nova refuses a host that was renamed.",
        network_checks.names,
        _OURS,
        mends="sets the name in Open vSwitch to that of nova.conf",
    ),
    Check(
        "ovn",
        "OVN reaches this machine, and its tunnels end where others find them",
        "New servers get no network, and changes of old ones do not come.",
        network_checks.ovn,
        _OURS,
    ),
    Check(
        "mtu",
        "Tunnels have room for the networks' packets",
        "Small packets pass and large ones vanish: logins work, and transfers hang.",
        network_checks.mtu,
        frozenset({Need.OURS, Need.CLOUD}),
    ),
    Check(
        "reach",
        "What a node needs of its cloud answers from here",
        "nova-compute or ovn-controller would start and wait for ever.",
        network_checks.reach,
        frozenset({Need.DOCUMENT}),
    ),
    # -- servers, and what is left of them ------------------------------------------------------------------------
    Check(
        "servers",
        "Every server that Nova has as running runs",
        "Its users cannot reach it, and Nova does not know.",
        leftover_checks.lost,
        frozenset({Need.OURS, Need.CLOUD}),
    ),
    Check(
        "leftovers",
        "There is no container of a server that Nova does not know",
        "It takes memory and disk that Placement gives to others; it may be all that is left of somebody's files.",
        leftover_checks.containers,
        frozenset({Need.OURS, Need.CLOUD}),
    ),
    Check(
        "left-networks",
        "There is no namespace or port of a server that Nova does not know",
        "They take little, and confuse who looks for a fault.",
        leftover_checks.networks,
        frozenset({Need.OURS, Need.CLOUD}),
        mends="removes them, where the server has no container either",
    ),
    Check(
        "left-patches",
        "There is no note to the runtime about a container that is gone",
        "They take a few bytes.",
        leftover_checks.patches,
        _OURS,
        mends="removes them",
    ),
)

CLOUD: tuple[Check[Cloud], ...] = (
    Check(
        "compute-services",
        "Nova's services are up",
        "Servers on such a host run on, and cannot be changed; new ones go elsewhere.",
        cloud_checks.services,
        _CLOUD,
    ),
    Check(
        "agents",
        "Neutron's agents are alive",
        "Servers there get no new networks, or no metadata.",
        cloud_checks.agents,
        _CLOUD,
    ),
    Check(
        "chassis",
        "Each compute host is a chassis of OVN, by the same name",
        "Neutron refuses every port of a server there (no OVN chassis for host).",
        cloud_checks.chassis,
        _CLOUD,
    ),
    Check(
        "providers",
        "Each compute host is a provider of Placement's, and none is left of one that is gone",
        "Nova places nothing on a host without one; it places servers on one that is gone, and they end in ERROR.",
        cloud_checks.providers,
        _CLOUD,
    ),
    Check(
        "release",
        "The cloud's release is one that this dockstack knows",
        "Beside nodes of too old a release, all of Nova's services refuse to start (TooOldComputeService).",
        cloud_checks.versions,
        _CLOUD,
    ),
    Check(
        "images",
        "Beside other hypervisors, each image says whose it is",
        "A server could be placed on a host that cannot boot its image, and end in ERROR.",
        cloud_checks.images,
        _CLOUD,
        mends="says of container images that they are Docker's; of others a person must decide",
    ),
    Check(
        "tasks",
        "No server waits for somebody who is gone",
        "It can be neither changed nor deleted until its task is given back.",
        cloud_checks.tasks,
        _CLOUD,
    ),
)

NAMES = (*(check.name for check in MACHINE), *(check.name for check in CLOUD))
