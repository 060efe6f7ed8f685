# SPDX-License-Identifier: Apache-2.0
"""Two compute hosts on one machine (`dockstack up --hosts 2`): servers reach each other, move, and survive a lost host.

About six minutes, and only on a cloud that has two hosts, as `dockstack test` gives it where the memory allows.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import node
import pytest

from dockstack.deploy.node import processes
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.supervision.backends import choose
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.wanted import hosts
from dockstack.names import UUID_LABEL, enter_host
from dockstack.verify import host
from dockstack.verify.exercises.limits import MEMORY, MIB
from dockstack.verify.exercises.power import Interface, log_in_again
from dockstack.verify.exercises.resize import find_bigger
from dockstack.verify.probe import answers_ping, wait_until
from dockstack.verify.resources import boot, delete_server, make_guest, ports_of, wait_for_status

if TYPE_CHECKING:
    from dockstack.verify.context import Context
    from dockstack.verify.resources import Guest

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(600)]
SECOND = "host2"
STATES = (Path("/var/lib/nova"), Path(hosts.outside(SECOND, "/var/lib/nova")))
LOST = ("host2-nova-compute", "host2-docker")


@pytest.fixture
def names(connection):
    """The names of both hosts, the machine's own first."""
    found = node.host_names(connection)
    if len(found) < 2:
        pytest.skip("this cloud has one host; `dockstack up --hosts 2` gives it another")
    return found[:2]


def test_servers_on_two_hosts_reach_each_other(ctx, names, pin):
    pin(names[0])
    first = make_guest(ctx, what="first")
    pin(names[1])
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


@dataclass(frozen=True)
class Traveller:
    """A server that must arrive with its files, its interface and its address."""

    ctx: Context
    guest: Guest
    interface: Interface

    @classmethod
    def make(cls, ctx):
        guest = make_guest(ctx, what="traveller")
        guest.shell.run("echo kept > ~/dockstack-kept; sync")
        return cls(ctx, guest, Interface.read(guest.shell))

    def ask(self, action, *arguments):
        getattr(self.ctx.connection.compute, action)(self.guest.server.id, *arguments)

    def arrives(self, status, on, memory_mb=None):
        """Wait for a status; the server must run on that host, as it was, with that much memory."""
        server = wait_for_status(self.ctx.connection, self.guest.server.id, status, self.ctx.timeouts.active)
        assert server.compute_host == on
        shell = log_in_again(self.ctx, self.guest, self.interface)
        assert shell.run("cat ~/dockstack-kept") == "kept"
        assert shell.run(MEMORY) == str((memory_mb or self.ctx.facts.flavor_memory_mb) * MIB)

    def goes_and_leaves_nothing(self):
        ports = tuple(port.id for port in ports_of(self.ctx.connection, self.guest.server.id))
        delete_server(self.ctx.connection, self.guest.server.id, self.ctx.timeouts.terminate)
        assert host.find_traces(self.guest.server.id, ports).describe() == ""
        kept = [entry.name for root in STATES for entry in root.glob(f"docker/migrations/{self.guest.server.id}")]
        assert kept == []


def test_a_cold_migration_is_confirmed_and_the_next_one_reverted(ctx, names, pin):
    own, other = names
    pin(own)
    traveller = Traveller.make(ctx)
    server_id = traveller.guest.server.id

    traveller.ask("migrate_server")
    traveller.arrives("VERIFY_RESIZE", other)
    assert containers_on("", server_id), "the old container stays until the move is confirmed"
    traveller.ask("confirm_server_resize")
    traveller.arrives("ACTIVE", other)
    assert not containers_on("", server_id)

    traveller.ask("migrate_server")
    traveller.arrives("VERIFY_RESIZE", own)
    traveller.ask("revert_server_resize")
    traveller.arrives("ACTIVE", other)
    assert not containers_on("", server_id)
    traveller.goes_and_leaves_nothing()


def test_a_resize_to_the_other_host_is_reverted_and_the_next_one_confirmed(ctx, names, pin):
    """Nova may resize a server where it is; the hint keeps it away from its first host."""
    own, other = names
    bigger = find_bigger(ctx)
    pin(own)
    neighbour = boot(ctx, what="neighbour")
    pin(own, scheduler_hints={"different_host": [neighbour.id]})
    traveller = Traveller.make(ctx)

    traveller.ask("resize_server", bigger.id)
    traveller.arrives("VERIFY_RESIZE", other, bigger.ram)
    traveller.ask("revert_server_resize")
    traveller.arrives("ACTIVE", own)

    traveller.ask("resize_server", bigger.id)
    traveller.arrives("VERIFY_RESIZE", other, bigger.ram)
    traveller.ask("confirm_server_resize")
    traveller.arrives("ACTIVE", other, bigger.ram)
    assert not containers_on("", traveller.guest.server.id)
    traveller.goes_and_leaves_nothing()


def test_a_lost_hosts_server_is_evacuated_and_leaves_nothing_behind(ctx, names, pin):
    own, lost = names
    pin(lost)
    guest = make_guest(ctx)
    server, floating = guest.server, guest.address
    port_ids = tuple(port.id for port in ports_of(ctx.connection, server.id))
    compute = ctx.connection.compute
    (service,) = compute.services(binary="nova-compute", host=lost)
    lose_host()
    try:
        compute.update_service_forced_down(service, host=lost, binary="nova-compute")
        compute.evacuate_server(server.id)
        wait_until(lambda: host_of(compute, server.id) == own, 240, f"{server.id} to be on {own}", every=1)
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
        lambda: not containers_on(SECOND, server.id), 240, f"{lost} to remove what it had of {server.id}", every=1
    )
    wait_until(lambda: answers_ping(floating), ctx.timeouts.answer, f"an answer at {floating} still")
    delete_server(ctx.connection, server.id, ctx.timeouts.terminate)
    assert host.find_traces(server.id, port_ids).describe() == ""


def lose_host():
    """End the host's nova-compute, its engine and its servers, without a word to Nova; nobody starts them again."""
    backend = choose(LocalShell(), "auto")
    inside = host_removal.inhabitants(hosts.mount_namespace(SECOND))
    for service in Records.here().services():
        if service.name in LOST:
            backend.stop(service)
    shims = {pid for pid in inside if (found := processes.look(pid)) and found.name.startswith("containerd-shim")}
    everything = processes.snapshot()
    processes.end({pid for shim in shims for pid in processes.tree(shim, everything)}, 1)


def host_of(compute, server_id):
    return compute.get_server(server_id).compute_host


def containers_on(key, server_id):
    """Return what the engine of a further host has of a server; that of the machine itself if no key is given."""
    listed = ("docker", "ps", "-aq", "--filter", f"label={UUID_LABEL}={server_id}")
    return host.ask(*(enter_host(key) if key else ()), *listed)
