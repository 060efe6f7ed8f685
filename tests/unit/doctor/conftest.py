# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.hypervisors.engine_file import DISPATCHER, RUNTIME
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.join.look import NodeFacts
from dockstack.deploy.node.own_package import lock_digest
from dockstack.deploy.run.preflight import MachineFacts
from dockstack.deploy.wanted import inventory
from dockstack.doctor.checks import MACHINE
from dockstack.doctor.host import HostFacts
from dockstack.doctor.machine import Disk, Subject
from dockstack.doctor.model import Need, examine

ENGINE = {
    "ServerVersion": "26.1.5",
    "Runtimes": {RUNTIME: {"path": DISPATCHER}},
    "LiveRestoreEnabled": True,
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    **dict.fromkeys(("MemoryLimit", "SwapLimit", "CpuCfsQuota", "CPUSet", "PidsLimit"), True),
}
SERVER = "7e2b0dd8-2c71-4bd5-9f3c-3f1f1c4c1c11"


@pytest.fixture
def healthy():
    """A machine of ours on which nothing is wrong, with parts of it replaced."""

    def build(*, engine=None, machine=None, facts=None, host=None, **subject):
        node = inventory.load(None).local
        known = MachineFacts(engine=EngineFacts(info={**ENGINE, **(engine or {})}), installed=True)
        known = replace(known, **(machine or {}))
        lock = lock_digest("2026.2/openstack")
        seen = NodeFacts(machine=known, hostname="one", ours=True, controller=True, engine=True, lock=lock)
        place = HostFacts(
            nova="one",
            engine=True,
            switch=True,
            settings={"hostname": "one", "ovn-encap-ip": "192.0.2.1", "ovn-encap-type": "geneve"},
            bridges=("br-int",),
            ovn="connected",
            mtus={"192.0.2.1": 1500},
        )
        made = Subject(
            node=node,
            facts=replace(seen, **(facts or {})),
            machine=known,
            hosts=(replace(place, **(host or {})),),
            controllers=frozenset({"cpu", "cpuset", "memory", "pids", "io"}),
            disks=(Disk("/", 40, 90_000),),
            status={"services": [{"name": "nova-compute", "title": "Nova compute", "healthy": True}], "root_disks": []},
            known=frozenset({SERVER}),
            database=(
                ("service", "one", "nova-conductor", "74"),
                ("service", "one", "nova-compute", "74"),
                ("mapped", "one"),
            ),
            largest_mtu=1442,
        )
        return replace(made, **subject)

    return build


@pytest.fixture
def found():
    """What a check, or each check, finds at a machine."""

    def look(subject, name=None, need=frozenset(Need)):
        results = examine(MACHINE, subject, need, frozenset({name} if name else ()))
        return [finding for result in results for finding in result.findings]

    return look


@pytest.fixture
def server():
    """A server that Nova knows."""
    return SERVER
