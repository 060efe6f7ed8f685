# SPDX-License-Identifier: Apache-2.0
"""Two compute hosts on one machine (`dockstack up --hosts 2`): servers reach each other and survive a lost host.

About four minutes, and only on a cloud that has two hosts: one that has not skips, since a second one costs memory.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from dockstack.deploy import eviction, hosts, processes
from dockstack.deploy.backends import choose
from dockstack.deploy.shell import LocalShell
from dockstack.deploy.state import Records
from dockstack.verify import host
from dockstack.verify.probe import answers_ping, wait_until
from dockstack.verify.resources import delete_server, make_guest, ports_of, wait_for_status

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]
SECOND = "host2"
LOST = ("host2-nova-compute", "host2-docker")


@pytest.fixture
def names(ctx):
    """The names of both hosts, the machine's own first."""
    found = sorted(
        (each.host for each in ctx.connection.compute.services(binary="nova-compute") if each.state == "up"), key=len
    )
    if len(found) < 2:
        pytest.skip("this cloud has one host; `dockstack up --hosts 2` gives it another")
    return found[:2]


@pytest.fixture
def pinned(ctx, names, monkeypatch):
    """Boot on a host of one's choice."""
    compute = ctx.tenant.connection.compute
    ask = compute.create_server

    def on(name):
        monkeypatch.setattr(compute, "create_server", lambda **wishes: ask(**wishes, availability_zone=f"nova:{name}"))

    return on


def test_servers_on_two_hosts_reach_each_other(ctx, names, pinned):
    pinned(names[0])
    first = make_guest(ctx, what="first")
    pinned(names[1])
    second = make_guest(ctx, what="second")

    for here, there in ((first, second), (second, first)):
        address = private_address(ctx, there)
        assert here.shell.attempt(f"ping -c 3 -W 2 {address}").status == 0
        assert "SSH-2.0" in here.shell.attempt(f"nc -w 5 {address} 22 < /dev/null | head -c 20").output, (
            "TCP by a tunnel"
        )
        question = "wget -qO- http://169.254.169.254/latest/meta-data/local-ipv4"
        assert private_address(ctx, here) in here.shell.attempt(question).output


def private_address(ctx, guest):
    (port,) = ports_of(ctx.connection, guest.server.id)
    return next(fixed["ip_address"] for fixed in port.fixed_ips if "." in fixed["ip_address"])


def test_a_lost_hosts_server_is_evacuated_and_leaves_nothing_behind(ctx, names, pinned):
    own, lost = names
    pinned(lost)
    guest = make_guest(ctx)
    server, floating = guest.server, guest.address
    port_ids = tuple(port.id for port in ports_of(ctx.connection, server.id))
    compute = ctx.connection.compute
    (service,) = compute.services(binary="nova-compute", host=lost)
    lose_host()
    try:
        compute.update_service_forced_down(service, host=lost, binary="nova-compute")
        compute.evacuate_server(server.id)
        wait_until(lambda: host_of(compute, server.id) == own, 120, f"{server.id} to be on {own}", every=1)
        wait_for_status(ctx.connection, server.id, "SHUTOFF", ctx.timeouts.active)  # since API version 2.95
        compute.start_server(server.id)
        wait_for_status(ctx.connection, server.id, "ACTIVE", ctx.timeouts.active)
        wait_until(lambda: answers_ping(floating), ctx.timeouts.answer, f"an answer at the same address {floating}")
        assert tuple(port.id for port in ports_of(ctx.connection, server.id)) == port_ids
    finally:
        up = [sys.executable, "-m", "dockstack.cli", "up", "--skip-verify"]
        ended = subprocess.run(up, check=False, capture_output=True, text=True)
        compute.update_service_forced_down(service, host=lost, binary="nova-compute", forced=False)
    assert ended.returncode == 0, ended.stdout
    wait_until(
        lambda: not containers_on(SECOND, server.id), 120, f"{lost} to remove what it had of {server.id}", every=1
    )
    assert answers_ping(floating)
    delete_server(ctx.connection, server.id, ctx.timeouts.terminate)
    assert host.find_traces(server.id, port_ids).describe() == ""


def lose_host():
    """End the host's nova-compute, its engine and its servers, without a word to Nova; nobody starts them again."""
    backend = choose(LocalShell(), "auto")
    inside = eviction.inhabitants(hosts.mount_namespace(SECOND))
    for service in Records.here().services():
        if service.name in LOST:
            backend.stop(service)
    shims = {pid for pid in inside if (found := processes.look(pid)) and found.name.startswith("containerd-shim")}
    everything = processes.snapshot()
    processes.end({pid for shim in shims for pid in processes.tree(shim, everything)}, 1)


def host_of(compute, server_id):
    return compute.get_server(server_id).compute_host


def containers_on(key, server_id):
    listed = ("docker", "ps", "-aq", "--filter", f"label={host.UUID_LABEL}={server_id}")
    return host.ask(*host.entrance(key), *listed)
