# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.recipes.stage import Stage, check_graph
from dockstack.deploy.run.plan import node_stages, tasks
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def stage(name, *after):
    return Stage(name, name, lambda _: None, after)


def test_stages_stand_after_what_they_wait_for():
    assert [one.name for one in check_graph([stage("b", "a"), stage("a")])] == ["a", "b"]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([stage("a"), stage("a")], "one name"),
        ([stage("a", "x")], "not there"),
        ([stage("a", "b"), stage("b", "a")], "wait for each other"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(stages, words):
    with pytest.raises(DockstackError, match=words):
        check_graph(stages)


@pytest.mark.parametrize("assignments", [(), ("hypervisor=fake",), ("docker.enable=false",)])
def test_the_recipes_fit_together(node, assignments):
    names = [one.name for one in node_stages(node(*assignments))]
    assert "foundation" in names
    assert ("hypervisor-start" in names) == (assignments != ("docker.enable=false",))


def test_without_docker_no_stage_needs_the_engine(node):
    names = {one.name for one in node_stages(node("docker.enable=false"))}
    assert not {name for name in names if name.startswith("hypervisor")}


def test_a_task_waits_for_those_of_its_own_node(node):
    far = replace(node(), name="far")
    work = {task.key: task for task in tasks(far, (stage("a"), stage("b", "a")))}
    assert {key: task.after for key, task in work.items()} == {"far/a": frozenset(), "far/b": {"far/a"}}
