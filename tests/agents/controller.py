# SPDX-License-Identifier: Apache-2.0
"""Neutron's ML2 plugin with its RPC side, in one process of the services' environment: ``controller.py CONF``.

Each line of standard input is a request, each line of output its answer, as JSON. The API's HTTP and Keystone are left
out: what is asked is what the API would call.
"""

from __future__ import annotations

import json
import os
import sys

from neutron import manager
from neutron.api import extensions
from neutron.common import config
from neutron.db.migration.models import head  # noqa: F401 - all tables
from neutron_lib import context
from neutron_lib.api import attributes
from neutron_lib.db import api as db_api
from neutron_lib.db import model_base
from neutron_lib.plugins import directory, utils

PROJECT = "0123456789abcdef0123456789abcdef"


ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else is printed is for the log


def main() -> None:
    config.register_common_config_options()
    config.init(["--config-file", sys.argv[1]])
    config.setup_logging()
    model_base.BASEV2.metadata.create_all(db_api.get_context_manager().writer.get_engine())
    manager.init()
    extensions.PluginAwareExtensionManager.get_instance().extend_resources("2.0", attributes.RESOURCES)
    plugin = directory.get_plugin()
    plugin.start_rpc_listeners()
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(REQUESTS[request.pop("do")](plugin, context.get_admin_context(), **request))
        except Exception as error:  # noqa: BLE001 - the test says what it makes of it
            answer({"error": f"{type(error).__name__}: {error}"})


def answer(found: object) -> None:
    print(json.dumps(found, default=str), file=ANSWERS, flush=True)


def agents(plugin, admin):
    found = plugin.get_agents(admin)
    return [{"host": each["host"], "alive": each["alive"], **each["configurations"]} for each in found]


def network(plugin, admin, name, cidr):
    made = utils.create_network(plugin, admin, {"network": {"name": name, "tenant_id": PROJECT, "project_id": PROJECT}})
    fields = {"name": name, "network_id": made["id"], "cidr": cidr, "ip_version": 4, "enable_dhcp": False}
    subnet = utils.create_subnet(plugin, admin, {"subnet": {**fields, "tenant_id": PROJECT, "project_id": PROJECT}})
    return {**made, "gateway": subnet["gateway_ip"]}


def group(plugin, admin, name, rules):
    fields = {"name": name, "description": "", "stateful": True, "tenant_id": PROJECT, "project_id": PROJECT}
    made = plugin.create_security_group(admin, {"security_group": fields})
    blank = dict.fromkeys(
        (
            *("port_range_min", "port_range_max", "protocol", "remote_ip_prefix", "remote_group_id"),
            "remote_address_group_id",
        )
    )
    for rule in ({"direction": "egress"}, *rules):  # a fresh database has no template of it
        whole = {**blank, "direction": "ingress", "ethertype": "IPv4", "description": "", **rule}
        whole |= {"security_group_id": made["id"], "tenant_id": PROJECT, "project_id": PROJECT}
        plugin.create_security_group_rule(admin, {"security_group_rule": whole})
    return made


def port(plugin, admin, network_id, host, groups):
    fields = {
        "network_id": network_id,
        "tenant_id": PROJECT,
        "project_id": PROJECT,
        "name": host,
        "admin_state_up": True,
        "device_id": f"00000000-0000-4000-8000-0000000000{len(host):02d}",
        "device_owner": "compute:nova",
        "binding:host_id": host,
        "security_groups": groups,
    }
    return utils.create_port(plugin, admin, {"port": fields})


def show(plugin, admin, port_id):
    return plugin.get_port(admin, port_id)


REQUESTS = {"agents": agents, "network": network, "group": group, "port": port, "show": show}

if __name__ == "__main__":
    main()
