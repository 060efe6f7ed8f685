# SPDX-License-Identifier: Apache-2.0
"""A visit: what the cloud knows is known before and after a look; an ill cloud is no reason not to look; mends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from dockstack.doctor import machine, visit
from dockstack.doctor.checks import MACHINE
from dockstack.doctor.model import Examination, Finding, Mend, Need, Result
from dockstack.doctor.visit import Visit
from dockstack.errors import DockstackError
from dockstack.verify.cloud import NoCloudError

pytestmark = pytest.mark.unit


@dataclass
class Cloud:
    """One whose Nova knows these, or does not answer."""

    ill: bool = False
    order: list = field(default_factory=list)
    servers: tuple = ()
    largest_mtu: int = 1442
    name: str = "theirs"

    def know_servers(self):
        self.order.append("cloud")
        if self.ill:
            raise DockstackError("Nova does not answer.")
        return frozenset()


@pytest.fixture
def visited(healthy, monkeypatch):
    def run(cloud):
        def look(node, document):
            getattr(cloud, "order", []).append("machine")
            return replace(healthy(host={"namespaces": ("00000000-2c71-4bd5-9f3c-3f1f1c4c1c11",)}), node=node)

        monkeypatch.setattr(machine, "examine", look)
        return Visit((healthy().node,), None, cloud).machines()["local"]

    return run


def states(examination):
    return {result.check: result.plain()["state"] for result in examination.results}


def test_the_cloud_says_what_it_knows_before_a_look_and_after_it(visited):
    cloud = Cloud()
    assert states(visited(cloud))["left-networks"] == "found"
    assert cloud.order == ["cloud", "machine", "cloud"]


@pytest.mark.parametrize("cloud", [Cloud(ill=True), NoCloudError("There is none."), DockstackError("It is down.")])
def test_a_cloud_that_does_not_answer_is_no_reason_not_to_look_at_its_machines(visited, cloud):
    found = states(visited(cloud))
    assert {name for name, state in found.items() if state == "not looked at"} == {
        check.name for check in MACHINE if check.needs & {Need.CLOUD, Need.DOCUMENT}
    }
    assert found["names"] == "good"
    assert set(found) == {check.name for check in MACHINE}


def test_a_machine_that_says_nonsense_stops_only_itself(healthy, monkeypatch):
    nodes = [replace(healthy().node, name=name) for name in ("one", "two")]
    seen = {"one": {"status": {"services": [7]}}, "two": {}}
    monkeypatch.setattr(machine, "examine", lambda node, _: replace(healthy(**seen[node.name]), node=node))
    found = Visit(tuple(nodes), None, NoCloudError("There is none.")).machines()
    assert isinstance(found["one"], DockstackError)
    assert found["two"].good


def test_a_mend_is_named_before_it_is_done_and_one_that_fails_stops_only_itself():
    said = []

    def fails():
        said.append("tried")
        raise DockstackError("It failed: true", "See what it said.", "no such thing")

    mends = [Mend("one", fails), Mend("two", lambda: said.append("done")), Mend("two", lambda: said.append("twice"))]
    results = tuple(Result("c", "t", "m", (Finding("b", "c", mend=each),)) for each in mends)
    outcomes = {"node7": Examination("node7", results), "node8": DockstackError("It is down.")}
    assert visit.mend(outcomes, said.append) == 1
    assert said[:2] == ["node7: one", "tried"]
    assert "no such thing" in said[2]
    assert said[3:] == ["node7: two", "twice"]


def test_a_mend_runs_where_it_is_meant_to(healthy):
    with pytest.raises(DockstackError, match="cannot be reached"):
        healthy().run("true")
