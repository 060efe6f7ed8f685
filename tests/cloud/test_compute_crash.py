# SPDX-License-Identifier: Apache-2.0
"""nova-compute dies at any point of a spawn or a destroy: after its restart nothing is left over."""

from __future__ import annotations

import time

import node
import pytest

from dockstack.verify.probe import answers_ping, wait_until
from dockstack.verify.resources import is_gone, make_guest, request_server

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900), pytest.mark.usefixtures("on_this_machine")]


def task_is(connection, server_id, task):
    return lambda: connection.compute.get_server(server_id).task_state in {task, None}


def has_container(connection, server_id, task):
    return lambda: node.container_of(server_id)


def runs(connection, server_id, task):
    return lambda: (found := node.container_of(server_id)) and found["State"]["Running"]


def has_namespace(connection, server_id, task):
    return lambda: node.namespace_of(server_id)


POINTS = {
    "networking": task_is,
    "spawning": task_is,
    "namespace": has_namespace,
    "container-created": has_container,
    "container-running": runs,
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_in_spawn(ctx, point):
    server = request_server(ctx)
    reached = POINTS[point](ctx.connection, server.id, point)
    wait_until(reached, ctx.timeouts.active, f"the spawn to reach {point}", every=0.01)
    old, killed = node.kill("nova-compute"), time.time()
    node.wait_restarted("nova-compute", old)
    node.wait_compute_reports(ctx.connection, killed)
    settled = wait_until(
        lambda: (found := ctx.connection.compute.get_server(server.id)).status in {"ACTIVE", "ERROR"} and found,
        ctx.timeouts.active,
        "the server to be ACTIVE or ERROR after the restart",
    )
    if settled.status == "ACTIVE":  # the spawn was over already
        assert node.container_of(server.id)["State"]["Running"]
    node.delete_and_find_nothing(ctx.connection, server.id, ctx.timeouts)
    assert node.stray_containers(ctx.connection) == []


def test_killed_in_destroy(ctx):
    guest = make_guest(ctx)
    ctx.connection.compute.delete_server(guest.server.id)
    wait_until(
        lambda: (
            is_gone(ctx.connection, guest.server.id)
            or ctx.connection.compute.get_server(guest.server.id).task_state == "deleting"
        ),
        ctx.timeouts.active,
        "the delete to begin",
        every=0.01,
    )
    old, killed = node.kill("nova-compute"), time.time()
    node.wait_restarted("nova-compute", old)
    node.wait_compute_reports(ctx.connection, killed)
    node.delete_and_find_nothing(ctx.connection, guest.server.id, ctx.timeouts)
    assert node.stray_containers(ctx.connection) == []


def test_running_servers_never_notice(ctx):
    guest = make_guest(ctx)
    before = node.container_of(guest.server.id)
    with node.pinging(guest.address) as answers:
        old, killed = node.kill("nova-compute"), time.time()
        node.wait_restarted("nova-compute", old)
        node.wait_compute_reports(ctx.connection, killed)
    after = node.container_of(guest.server.id)
    assert after["State"]["Pid"] == before["State"]["Pid"]
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert node.longest_silence(answers) <= 2, answers
    assert guest.shell.run("echo alive") == "alive"
    assert ctx.connection.compute.get_server(guest.server.id).status == "ACTIVE"
    wait_until(lambda: answers_ping(guest.address), ctx.timeouts.answer, "an answer to ping")
