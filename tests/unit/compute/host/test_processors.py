# SPDX-License-Identifier: Apache-2.0
"""Which processors servers run on."""

from __future__ import annotations

import pytest

from dockstack.compute.cpulist import parse, show
from dockstack.compute.host.processors import Processors
from dockstack.compute.model import Limits

pytestmark = pytest.mark.unit


def limits(vcpus: int, **more) -> Limits:
    return Limits(vcpus=vcpus, memory_mb=64, disk_gb=1, **more)


@pytest.mark.parametrize(("cpus", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 5), "0-2,5"), ((7, 6), "6-7")])
def test_lists_are_the_kernels(cpus, text) -> None:
    assert show(cpus) == text
    assert parse(text) == tuple(sorted(cpus))


@pytest.mark.parametrize("text", ["x", "-1", "1,,2", "1-2-3"])
def test_what_is_no_list_is_none(text) -> None:
    assert parse(text) == ()


def test_servers_spread_over_the_least_taken() -> None:
    host = Processors(range(4))
    assert host.place("a", limits(2)).cpus == (0, 1)
    assert host.place("b", limits(1)).cpus == (2,)
    assert host.place("c", limits(2)).cpus == (0, 3)
    host.release("a")
    assert host.place("d", limits(1)).cpus == (1,)
    assert host.place("b", limits(1)).cpus == (2,), "again is the same"


def test_one_with_as_many_vcpus_as_there_are_runs_on_all() -> None:
    host = Processors(range(2))
    assert host.place("a", limits(8)).cpus == (0, 1)
    assert host.place("b", limits(1)).cpus == (0,)
    assert host.place("c", limits(1)).cpus == (1,)


def test_dedicated_ones_are_added_and_never_shared() -> None:
    host = Processors((0, 1), (2, 3))
    assert host.place("a", limits(2, pinned=(2, 3))).cpus == (2, 3)
    assert host.place("b", limits(2, pinned=(2,))).cpus == (0, 2)
    assert host.place("c", limits(1)).cpus == (1,)


def test_a_placement_is_kept_while_it_fits() -> None:
    host = Processors(range(4))
    assert host.place("a", limits(1), "3").cpus == (3,)
    assert host.place("a", limits(2), "3").cpus == (0, 1), "after a resize"
    assert Processors(range(2)).place("a", limits(1), "3").cpus == (0,), "the operator divided them anew"


def test_a_restart_remembers() -> None:
    host = Processors(range(2))
    host.remember("a", "0")
    assert host.place("b", limits(1)).cpus == (1,)
    host.release("nobody")


def test_floating_servers_run_on_all_shared_ones() -> None:
    assert Processors(range(2), spread=False).place("a", limits(1), "1").cpus == (0, 1)
