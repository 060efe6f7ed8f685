# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
from openstack import exceptions as sdk_errors

from dockstack.bench import actions, plots, servers
from dockstack.bench.actions import ACTIONS, FLOOR, SERVER, Latencies, Subject
from dockstack.bench.servers import ServerTemplate

pytestmark = pytest.mark.unit
BECOMES = {
    "stop_server": "SHUTOFF",
    "pause_server": "PAUSED",
    "suspend_server": "SUSPENDED",
    "rescue_server": "RESCUE",
    "resize_server": "VERIFY_RESIZE",
    "shelve_server": "SHELVED_OFFLOADED",
}


class Compute:
    """A server that does at once whatever is asked of it, but for what ``refuses`` names."""

    def __init__(self, refuses=()):
        self.refuses, self.asked = refuses, []
        self.server = SimpleNamespace(status="ACTIVE", task_state=None, fault=None)
        self.there = True

    def get_server(self, _identifier):
        if not self.there:
            raise sdk_errors.NotFoundException("gone")
        return self.server

    def delete_server(self, _identifier, **_kwargs):
        self.there = False

    def server_interfaces(self, _server):
        return [SimpleNamespace(port_id="first"), SimpleNamespace(port_id="second")]

    def create_server_image(self, *_args, **_kwargs):
        self.asked.append("create_server_image")
        return SimpleNamespace(id="image")

    def __getattr__(self, name):
        def ask(*_args, **_kwargs):
            self.asked.append(name)
            if name in self.refuses:
                raise sdk_errors.ConflictException("not now")
            self.server.status = BECOMES.get(name, "ACTIVE")

        return ask


def do_all(compute, kind=SERVER):
    found = Latencies({action.name: {SERVER: [], FLOOR: []} for action in ACTIONS}, defaultdict(dict))

    def boot():
        compute.there, compute.server.status = True, "ACTIVE"
        connection = SimpleNamespace(
            compute=compute,
            image=SimpleNamespace(
                delete_image=lambda *_a, **_k: compute.asked.append("delete_image"),
                get_image=lambda image: SimpleNamespace(id=image, status="active"),
            ),
        )
        return Subject(connection, "server", ServerTemplate("image", "flavor", "network", "zone"), "larger")

    actions._do_all(boot, kind, found)
    return found


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(actions, "POLL_SECONDS", 0)
    monkeypatch.setattr(servers, "POLL_SECONDS", 0)


def test_every_action_is_timed_and_the_server_deleted():
    compute = Compute()
    found = do_all(compute)
    assert {name: len(kinds[SERVER]) for name, kinds in found.samples.items()} == {each.name: 1 for each in ACTIONS}
    assert not found.refused
    assert "delete_image" in compute.asked
    assert not compute.there


def test_the_floor_is_not_asked_for_what_it_never_ends():
    compute = Compute()
    found = do_all(compute, FLOOR)
    assert "create_server_image" not in compute.asked
    assert found.refused == {"snapshot": {FLOOR: "Nova's fake driver uploads nothing"}}


def test_what_is_refused_has_a_reason_and_what_takes_it_back_is_not_tried():
    compute = Compute(refuses=("create_server_interface",))
    found = do_all(compute)
    assert list(found.refused) == ["attach interface", "detach interface"]
    assert "not now" in found.refused["attach interface"][SERVER]
    assert found.refused["detach interface"] == {SERVER: "attach interface did not work"}
    assert "delete_server_interface" not in compute.asked
    assert found.samples["snapshot"][SERVER], "the round goes on"


def test_table_document_and_picture(tmp_path):
    found = do_all(Compute(refuses=("rescue_server",)))
    for kinds in found.samples.values():
        kinds[FLOOR] += [0.1, 0.2]
    assert actions.table_of(found).row_count == len(ACTIONS)
    assert any(note.startswith("rescue, docker server:") for note in actions.notes_of(found))
    assert actions.document_of(found)["summary"]["stop"][FLOOR]["median"] == pytest.approx(0.15)
    plots.draw(found, tmp_path / "actions.png")
    assert (tmp_path / "actions.png").read_bytes().startswith(b"\x89PNG")


def test_the_shelf_is_empty_after_an_interrupt():
    deleted = []
    images = SimpleNamespace(images=lambda name: [name], delete_image=lambda image, **_kwargs: deleted.append(image))
    with pytest.raises(KeyboardInterrupt), actions.forgetting_the_shelf(SimpleNamespace(image=images)):
        raise KeyboardInterrupt
    assert deleted == ["dockstack-bench-actions-shelved"]
