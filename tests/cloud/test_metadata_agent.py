# SPDX-License-Identifier: Apache-2.0
"""Neutron's agent sets up what serves metadata once for each network, and keeps it from one server to the next."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dockstack.verify.context import Tenant
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import boot, delete_server

pytestmark = [pytest.mark.cloud, pytest.mark.usefixtures("on_this_machine")]

LOG = Path("/var/log/neutron/neutron-ovn-agent.log")
LINGERS = 30  # seconds, as dockstack.agent.metadata says, which needs Neutron to be imported


def make_network(ctx, cidr):
    neutron = ctx.connection.network
    network = neutron.create_network(name=ctx.name("net"))
    ctx.stack.callback(neutron.delete_network, network.id, ignore_missing=True)
    neutron.create_subnet(network_id=network.id, name=ctx.name("subnet"), ip_version=4, cidr=cidr)
    return network.id


def test_a_network_is_set_up_once(ctx, timeouts):
    tenant = Tenant(ctx.connection, make_network(ctx, "10.79.0.0/24"), None)
    network = tenant.network_id
    namespace = Path("/run/netns", f"ovnmeta-{network}")

    def be_there():
        server = boot(ctx, tenant=tenant)
        wait_until(namespace.exists, timeouts.answer, "the network's namespace to be made")
        return server, namespace.stat().st_ino

    first, made = be_there()
    second, _ = be_there()
    delete_server(tenant.connection, first.id, timeouts.terminate)
    tenant.connection.compute.delete_server(second.id)
    ports = partial(tenant.connection.network.ports, network_id=network, device_id=second.id)
    wait_until(lambda: not list(ports()), timeouts.terminate, "the second server to leave the network, which lingers")
    third, found = be_there()
    assert found == made
    for server in (second, third):
        delete_server(tenant.connection, server.id, timeouts.terminate)
    assert LOG.read_text().count(f"Provisioning metadata for network {network}") == 1
    wait_until(lambda: not namespace.exists(), 10 * LINGERS, "the network to be left")
