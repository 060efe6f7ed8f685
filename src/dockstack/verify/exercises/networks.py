# SPDX-License-Identifier: Apache-2.0
"""Networking: security groups, floating IPs, neighbours, DNS, the way out, IPv6."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import answers_ping, answers_tcp, stays_silent, wait_until
from dockstack.verify.resources import (
    PING,
    PING6,
    SSH,
    allow,
    boot,
    fixed_address,
    make_floating_ip,
    make_group,
    make_guest,
    pinging_shell,
    ports_of,
)

if TYPE_CHECKING:
    from dockstack.verify.shell import Shell

SSH_PORT = 22


def deny_then_allow(ctx: Context) -> None:
    """A group without rules lets nothing in; a rule lets in what it names, and nothing else; without it, nothing."""
    group = make_group(ctx, [])
    server = boot(ctx, group=group)
    address = make_floating_ip(ctx, server).floating_ip_address
    ctx.say("no rules: nothing may come in")
    expect_silence(ctx, address, "its security group has no rules")
    rule = allow(ctx.tenant, group.id, PING)
    ctx.say("ping allowed")
    wait_until(lambda: answers_ping(address), ctx.timeouts.answer, f"an answer to ping at {address}, now allowed")
    if answers_tcp(address, SSH_PORT):
        raise CheckFailed(f"TCP port 22 of {address} answers, but only ping is allowed.")
    allow(ctx.tenant, group.id, SSH)
    ctx.say("SSH allowed")
    wait_until(
        lambda: answers_tcp(address, SSH_PORT), ctx.timeouts.answer, f"TCP port 22 of {address} to answer, now allowed"
    )
    ctx.connection.network.delete_security_group_rule(rule.id)
    ctx.say("ping denied again")
    wait_until(lambda: not answers_ping(address), ctx.timeouts.associate, f"ping at {address} to be denied again")


def expect_silence(ctx: Context, address: str, why: str) -> None:
    """Neither ping nor SSH may come through."""
    silent = stays_silent(
        lambda: answers_ping(address, 0.5) or answers_tcp(address, SSH_PORT, 0.5), ctx.timeouts.silence
    )
    if not silent:
        raise CheckFailed(f"{address} answers although {why}.", "Look at the port's security groups.")


def move_floating_ip(ctx: Context) -> None:
    """A floating IP leads to a server, not when it is taken away, and then to another server."""
    group = make_group(ctx, [PING])
    first = boot(ctx, what="first", group=group)
    second = boot(ctx, what="second", group=group)
    network = ctx.connection.network
    floating = make_floating_ip(ctx, first)
    address = floating.floating_ip_address
    ctx.say(f"{address} leads to the first server")
    wait_until(lambda: answers_ping(address), ctx.timeouts.answer, f"an answer to ping at {address}")
    network.update_ip(floating.id, port_id=None)
    ctx.say("taken away")
    wait_until(lambda: not answers_ping(address), ctx.timeouts.associate, f"{address}, taken away, to fall silent")
    network.update_ip(floating.id, port_id=ports_of(ctx.connection, second.id)[0].id)
    ctx.say("given to the second server")
    wait_until(lambda: answers_ping(address), ctx.timeouts.associate, f"an answer from the second server at {address}")


def talk_to_neighbour(ctx: Context) -> None:
    """Two servers on the tenant's network reach each other."""
    guest = make_guest(ctx)
    other = boot(ctx, what="neighbour", group=guest.group)
    address = fixed_address(ctx.connection, other.id)
    ctx.say(f"pinging {address} from inside the first server")
    shell = pinging_shell(ctx, guest)
    wait_until(
        lambda: shell.attempt(f"ping -c 1 -W 1 {address}").status == 0,
        ctx.timeouts.answer,
        f"an answer from the neighbour {address} inside the server",
    )
    wait_until(
        lambda: guest.shell.attempt(f"echo | nc -w 3 {address} {SSH_PORT}").output.startswith("SSH-"),
        ctx.timeouts.answer,
        f"TCP from one server to port 22 of the other ({address}) to be answered",
        "Does sshd run there? Its console log says so.",
    )


def find_names_and_way_out(ctx: Context) -> None:
    """The server knows its subnet's name servers, its gateway and its MTU, and its gateway answers."""
    guest = make_guest(ctx)
    port = ports_of(ctx.connection, guest.server.id)[0]
    network = ctx.connection.network
    subnets = [network.get_subnet(fixed["subnet_id"]) for fixed in port.fixed_ips]
    v4 = next(subnet for subnet in subnets if subnet.ip_version == 4)  # noqa: PLR2004 - IP version 4
    gateway = guest.shell.run("ip -4 route show default | awk '{ print $3; exit }'")
    expect(gateway, v4.gateway_ip, "the default gateway inside")
    pinger = pinging_shell(ctx, guest)
    wait_until(
        lambda: pinger.attempt(f"ping -c 1 -W 3 {gateway}").status == 0,
        ctx.timeouts.answer,
        f"an answer from the gateway {gateway} inside the server",
    )
    mtu = guest.shell.run("cat /sys/class/net/eth0/mtu")
    expect(int(mtu), network.get_network(port.network_id).mtu, "the MTU of eth0")
    resolvers = name_servers(guest.shell)
    wanted = [name for subnet in subnets for name in subnet.dns_nameservers]
    if wanted and not set(wanted) & set(resolvers):
        raise CheckFailed(f"/etc/resolv.conf names {resolvers}, the subnet names {wanted}.")
    if not resolvers:
        raise CheckFailed("/etc/resolv.conf inside the server names no name server.")


def name_servers(shell: Shell) -> list[str]:
    """Read the name servers of a server's resolver."""
    lines = shell.run("cat /etc/resolv.conf").splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver ")]


def talk_ipv6(ctx: Context) -> None:
    """The server has its IPv6 address from Neutron and reaches a neighbour with it."""
    guest = make_guest(ctx, rules=[PING, SSH, PING6])
    other = boot(ctx, what="neighbour", group=guest.group)
    own = fixed_address(ctx.connection, guest.server.id, 6)
    configured = guest.shell.run("ip -6 -o addr show dev eth0 | awk '{ print $4 }'").split()
    if ipaddress.ip_address(own) not in {ipaddress.ip_interface(each).ip for each in configured}:
        raise CheckFailed(f"eth0 inside has {configured}, Neutron gave it {own}.")
    address = fixed_address(ctx.connection, other.id, 6)
    ctx.say(f"pinging {address} from inside the first server")
    shell = pinging_shell(ctx, guest)
    wait_until(
        lambda: shell.attempt(f"ping -6 -c 1 -W 1 {address} || ping6 -c 1 -W 1 {address}").status == 0,
        ctx.timeouts.answer,
        f"an answer from the neighbour {address} inside the server",
    )


FLOATING_NEEDS = frozenset({Capability.GUEST, Capability.FLOATING_IP})
SECURITY_GROUPS = Exercise(
    "security-groups", "Security groups deny all but what their rules allow", deny_then_allow, LOGIN_NEEDS
)
FLOATING_IP = Exercise("floating-ip", "A floating IP comes, goes and moves", move_floating_ip, FLOATING_NEEDS)
NEIGHBOURS = Exercise("neighbours", "Two servers on one network talk to each other", talk_to_neighbour, LOGIN_NEEDS)
DNS_AND_ROUTE = Exercise(
    "dns-and-route", "Name servers, default route and MTU are the subnet's", find_names_and_way_out, LOGIN_NEEDS
)
IPV6 = Exercise("ipv6", "Servers talk IPv6 on the tenant's network", talk_ipv6, LOGIN_NEEDS | {Capability.IPV6})
