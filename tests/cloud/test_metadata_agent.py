# SPDX-License-Identifier: Apache-2.0
"""Neutron's agent sets up what serves metadata once for each network, and keeps it from one server to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockstack.verify.probe import wait_until
from dockstack.verify.resources import boot, delete_server
from dockstack.verify.tenants import make_tenant

pytestmark = [pytest.mark.cloud, pytest.mark.usefixtures("on_this_machine")]

LOG = Path("/var/log/neutron/neutron-ovn-agent.log")
LINGERS = 30  # seconds, as dockstack.agent.metadata says, which needs Neutron to be imported


def test_a_network_is_set_up_for_its_first_server_and_left_a_while_after_its_last(ctx, timeouts):
    tenant = make_tenant(ctx, "tenant", "10.79.0.0/24")
    network = tenant.network_id
    namespace = Path("/run/netns", f"ovnmeta-{network}")

    def be_there():
        server = boot(ctx, tenant=tenant)
        wait_until(namespace.exists, timeouts.answer, "the network's namespace to be made")
        return server, namespace.stat().st_ino

    first, made = be_there()
    second, _ = be_there()
    for server in (first, second):
        delete_server(tenant.connection, server.id, timeouts.terminate)
    third, found = be_there()
    assert found == made
    delete_server(tenant.connection, third.id, timeouts.terminate)
    assert LOG.read_text().count(f"Provisioning metadata for network {network}") == 1
    assert namespace.exists()
    wait_until(lambda: not namespace.exists(), 3 * LINGERS, "the network to be left")
