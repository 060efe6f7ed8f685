# SPDX-License-Identifier: Apache-2.0
"""Each invariant, broken alone, is found; nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.chaos.invariants import check
from dockstack.chaos.model import Allocation, Category, Container, HostView, Nic, Outcome, Port, Survey, Truth, Volume

pytestmark = pytest.mark.unit

SERVER, DEAD = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NIC = Nic("fa:16:3e:00:00:01", frozenset({"10.0.0.5", "fd00::5"}))
PORT = Port("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", NIC, "node", "ACTIVE")
DEAD_PORT = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
TRUTH = Truth(SERVER, "s", "ACTIVE", None, "node", 64, 1, (PORT,), (Allocation("node", {"MEMORY_MB": 64, "VCPU": 1}),))
BOX = Container("c" * 64, f"nova-{SERVER}", SERVER, True, False, 42, 64 << 20, 1.0, 4096, 4096)
NODE = HostView(
    "", "node", (BOX,), {SERVER: (NIC,)}, frozenset({PORT.device}), frozenset({PORT.device}), frozenset({BOX.id}),
    ("migrations/host.json",),
)  # fmt: skip
SECOND = HostView("host2", "node-2")
WHOLE = Survey(
    truths=(TRUTH,), hosts=(NODE, SECOND), deleted={DEAD: (DEAD_PORT,)}, chassis={PORT.id: "node"},
    consumers={"node": frozenset({SERVER})}, known=frozenset({SERVER}), migrations={}, living=frozenset({BOX.id}),
    spools=frozenset(), loops=(), owned={SERVER: (PORT.id,)},
)  # fmt: skip


def on_node(**changes):
    return replace(WHOLE, hosts=(replace(NODE, **changes), SECOND))


def on_second(**changes):
    return replace(WHOLE, hosts=(NODE, replace(SECOND, **changes)))


def truth(**changes):
    return replace(WHOLE, truths=(replace(TRUTH, **changes),))


def test_a_whole_cloud_breaks_nothing():
    assert check(WHOLE) == []


TWIN = replace(BOX, id="d" * 64)
BROKEN = {
    "not-running": (
        replace(on_node(containers=(replace(BOX, running=False, pid=0),)), living=frozenset()),
        "runs once",
        Category.LOST,
    ),
    "no-container": (
        replace(on_node(containers=(), patches=frozenset()), living=frozenset()), "runs once", Category.LOST
    ),
    "frozen": (on_node(containers=(replace(BOX, paused=True),)), "runs once", Category.LOST),
    "no-process": (replace(WHOLE, living=frozenset()), "runs once", Category.LOST),
    "twice": (
        replace(
            on_node(containers=(BOX, TWIN), patches=frozenset({BOX.id, TWIN.id})), living=frozenset({BOX.id, TWIN.id})
        ),
        "runs once",
        Category.WRONG,
    ),
    "stopped-with-processes": (
        replace(
            on_node(containers=(BOX, replace(TWIN, running=False)), patches=frozenset({BOX.id, TWIN.id})),
            living=frozenset({BOX.id, TWIN.id}),
        ),
        "runs once",
        Category.WRONG,
    ),
    "elsewhere": (
        replace(
            WHOLE,
            hosts=(
                replace(NODE, containers=(), patches=frozenset()),
                replace(SECOND, containers=(BOX,), patches=frozenset({BOX.id})),
            ),
        ),
        "runs where Nova says",
        Category.WRONG,
    ),
    "address": (
        on_node(namespaces={SERVER: (replace(NIC, addresses=frozenset({"10.0.0.6"})),)}), "NICs", Category.WRONG
    ),
    "unplugged": (on_node(switch_ports=frozenset()), "NICs", Category.WRONG),
    "no-device": (on_node(devices=frozenset()), "NICs", Category.WRONG),
    "other-chassis": (replace(WHOLE, chassis={PORT.id: "node-2"}), "NICs", Category.WRONG),
    "port-down": (truth(ports=(replace(PORT, status="DOWN"),)), "NICs", Category.WRONG),
    "memory": (on_node(containers=(replace(BOX, memory=256 << 20),)), "limits", Category.WRONG),
    "processors": (on_node(containers=(replace(BOX, cpu=2.0),)), "limits", Category.WRONG),
    "processes-limit": (on_node(containers=(replace(BOX, pids=8192),)), "limits", Category.WRONG),
    "no-processes-limit": (on_node(containers=(replace(BOX, pids=0, made_with_pids=0),)), "limits", Category.WRONG),
    "no-allocation": (truth(allocations=()), "Placement", Category.WRONG),
    "two-allocations": (
        truth(allocations=(*TRUTH.allocations, Allocation("node-2", {"MEMORY_MB": 64, "VCPU": 1}))),
        "Placement",
        Category.WRONG,
    ),
    "old-allocation": (
        replace(WHOLE, consumers={"node": frozenset({SERVER, DEAD})}), "Placement", Category.LEFT_OVER
    ),
    "task": (truth(task="spawning", status="BUILD"), "no task state", Category.STUCK),
    "build": (truth(status="BUILD"), "no BUILD for ever", Category.STUCK),
    "migration": (replace(WHOLE, migrations={SERVER: "migrating"}), "migrations end", Category.STUCK),
    "container": (
        on_second(containers=(replace(TWIN, server=DEAD, name=f"nova-{DEAD}", running=False),), patches=frozenset()),
        "containers",
        Category.LEFT_OVER,
    ),
    "side-container": (
        on_second(containers=(replace(TWIN, name=f"nova-{SERVER}-original", running=False),)),
        "side containers",
        Category.LEFT_OVER,
    ),
    "moved-away": (
        on_second(containers=(replace(TWIN, running=False),)), "containers of servers elsewhere", Category.LEFT_OVER
    ),
    "namespace": (on_second(namespaces={DEAD: ()}), "network namespaces", Category.LEFT_OVER),
    "switch-port": (on_second(switch_ports=frozenset({f"tap{DEAD_PORT[:11]}"})), "switch ports", Category.LEFT_OVER),
    "device": (on_second(devices=frozenset({f"tap{DEAD_PORT[:11]}"})), "devices", Category.LEFT_OVER),
    "patch": (on_second(patches=frozenset({"e" * 64})), "runtime patches", Category.LEFT_OVER),
    "parts": (on_second(files=(f"migrations/{DEAD}",)), "files of the driver", Category.LEFT_OVER),
    "drive": (on_second(files=(f"drives/{DEAD}",)), "files of the driver", Category.LEFT_OVER),
    "spool": (on_second(files=("images/spool-x1",)), "files of the driver", Category.LEFT_OVER),
    "copy": (on_second(copies=("sha256:1",)), "copies of snapshots", Category.LEFT_OVER),
    "neutron-port": (
        replace(WHOLE, owned={**WHOLE.owned, DEAD: (DEAD_PORT,)}), "ports in Neutron", Category.LEFT_OVER
    ),
    "binding": (
        replace(WHOLE, chassis={**WHOLE.chassis, DEAD_PORT: "node"}), "port bindings in OVN", Category.LEFT_OVER
    ),
    "processes": (replace(WHOLE, living=frozenset({BOX.id, "f" * 64})), "processes", Category.LEFT_OVER),
    "open-spool": (replace(WHOLE, spools=frozenset({"/docker/images/#1"})), "image workspaces", Category.LEFT_OVER),
    "loop": (replace(WHOLE, loops=("/some/file",)), "loop devices", Category.LEFT_OVER),
}  # fmt: skip


@pytest.mark.parametrize(("survey", "invariant", "category"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_found_and_nothing_else(survey, invariant, category):
    assert {(finding.invariant, finding.category) for finding in check(survey)} == {(invariant, category)}


def test_an_outcome_counts_by_category():
    outcome = Outcome(findings=check(replace(WHOLE, loops=("/a", "/b"))))
    assert outcome.as_dict()["counts"] == {"lost": 0, "left_over": 2, "stuck": 0, "wrong": 0}


VOLUME = Volume("dddddddd-dddd-4ddd-8ddd-dddddddddddd", "in-use", frozenset({SERVER}))
HELD = frozenset({(SERVER, VOLUME.id)})


def with_volume(volume=VOLUME, held=HELD, loops=(f"/var/lib/cinder/volumes/volume-{VOLUME.id}",)):
    return replace(on_node(volumes=held), volumes=(volume,), loops=loops)


def test_a_volume_that_a_server_has_is_nothing_left_over():
    assert check(with_volume()) == []


@pytest.mark.parametrize(
    ("survey", "invariants"),
    [
        (with_volume(replace(VOLUME, status="detaching")), ["volumes"]),
        (with_volume(replace(VOLUME, status="available")), ["volumes"]),
        (with_volume(replace(VOLUME, servers=frozenset())), ["volumes", "records of volumes", "loop devices"]),
        (with_volume(replace(VOLUME, servers=frozenset({SERVER, DEAD}))), ["attachments in Cinder"]),
        (with_volume(held=frozenset()), ["has its volumes"]),
        (with_volume(held=HELD | {(DEAD, VOLUME.id)}), ["records of volumes"]),
        (with_volume(held=HELD | {("a stranger's", VOLUME.id)}), []),
        (with_volume(loops=("/var/lib/cinder/volumes/volume-of-another",)), ["loop devices"]),
    ],
)
def test_what_is_wrong_with_a_volume_is_found(survey, invariants):
    assert [finding.invariant for finding in check(survey)] == invariants
