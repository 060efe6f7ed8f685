# SPDX-License-Identifier: Apache-2.0
"""Give a server one port as the driver does: ``plug.py``, what to plug as JSON on standard input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import os_vif
from oslo_config import cfg
from vif_plug_ovs import privsep

from dockstack.compute.containers import namespaces
from dockstack.compute.model import Address, Port
from dockstack.compute.network import ovs, veth
from dockstack.compute.privileged import context
from sample_server import SERVER

DATABASE = "unix:/run/openvswitch/db.sock"


def main() -> None:
    told = json.load(sys.stdin)
    privsep.vif_plug.set_client_mode(False)
    context.set_client_mode(False)
    cfg.CONF([], project="test")
    os_vif.initialize()
    cfg.CONF.set_override("isolate_vif", told["isolate"], group="os_vif_ovs")
    ovs.connect(DATABASE)
    address = Address(told["cidr"], told["gateway"])
    port = Port(
        id=told["id"],
        mac=told["mac"],
        device=f"tap{told['id'][:11]}",
        interface="eth0",
        network_id=told["network_id"],
        mtu=told["mtu"],
        bridge=told["bridge"],
        vif_type=told["vif_type"],
        bridged=told["bridged"],
        addresses=(address,),
    )
    server = replace(SERVER, uuid=told["server"], ports=(port,))
    namespaces.prepare(server.uuid)
    veth.wire(server, port, "gateway", offload=False)
    ovs.plug(server, port)
    print(port.device)


if __name__ == "__main__":
    main()
