# SPDX-License-Identifier: Apache-2.0
"""The engine dies, is restarted, or loses a container: servers live on, and Nova knows what happened."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import node
import pytest
from docker.errors import NotFound

from dockstack.verify.exercises.power import Interface
from dockstack.verify.probe import answers_tcp, wait_until
from dockstack.verify.resources import boot, make_guest, open_shell, wait_for_status

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900), pytest.mark.usefixtures("on_this_machine")]

NOTICE_SECONDS = 120  # by itself, Nova would look after ten minutes


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "stop"])
def test_servers_never_notice_that_the_engine_went(ctx, number):
    guest = make_guest(ctx)
    interface = Interface.read(guest.shell)
    pid = node.container_of(guest.server.id)["State"]["Pid"]
    with node.pinging(guest.address) as answers:
        old = node.kill("docker", number)
        node.wait_restarted("docker", old)
        node.wait_engine_answers()
    assert node.container_of(guest.server.id)["State"]["Pid"] == pid
    assert node.longest_silence(answers) <= 2, answers
    assert Interface.read(guest.shell) == interface
    # The driver has reconnected: it commands the same container.
    ctx.connection.compute.reboot_server(guest.server.id, "HARD")
    wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
    wait_until(lambda: answers_tcp(guest.address, 22), ctx.timeouts.answer, "SSH to answer after the reboot")
    assert Interface.read(open_shell(ctx, guest.address, guest.key)) == interface


def test_a_dead_container_is_a_server_that_is_shut_off(ctx):
    server = boot(ctx)
    node.engine().kill(f"nova-{server.id}")
    started = time.monotonic()
    wait_for_status(ctx.connection, server.id, "SHUTOFF", NOTICE_SECONDS)
    print(f"Nova knew after {time.monotonic() - started:.1f} s")
    ctx.connection.compute.start_server(server.id)
    wait_for_status(ctx.connection, server.id, "ACTIVE", ctx.timeouts.active)
    assert node.container_of(server.id)["State"]["Running"]


def test_foreign_containers_are_left_alone(ctx):
    """Also one whose name looks like a server's, but that carries none of our labels."""
    api = node.engine()
    first = boot(ctx, what="first")
    image = node.container_of(first.id)["Image"]
    names = ["dockstack-test-foreign", "nova-00000000-0000-4000-8000-000000000000"]
    for name in names:
        with suppress(NotFound):  # a killed run's
            api.remove_container(name, force=True)
        ctx.stack.callback(api.remove_container, name, force=True)
        api.start(api.create_container(image, name=name, host_config=api.create_host_config(network_mode="none")))
    before = {name: api.inspect_container(name)["State"] for name in names}
    old, killed = node.kill("nova-compute"), time.time()
    node.wait_restarted("nova-compute", old)
    node.wait_compute_reports(ctx.connection, killed)
    second = boot(ctx, what="second")
    node.delete_and_find_nothing(ctx.connection, second.id, ctx.timeouts)
    after = {name: api.inspect_container(name)["State"] for name in names}
    assert after == before
