# SPDX-License-Identifier: Apache-2.0
"""Configuration directories of deployers, written by us after their documents; every secret can be told apart."""

from __future__ import annotations

import json

UNWANTED = ("db-pw", "admin-pw", "cookie", "glance-pw")  # what no compute node has a use for

KOLLA = {
    "globals.yml": """\
---
openstack_release: "2026.2"
kolla_internal_vip_address: "10.1.0.10"
network_interface: "eth0"
neutron_plugin_agent: "ovn"
enable_cinder: "yes"
openstack_region_name: "{{ site }}"
""",
    "globals.d/site.yml": "site: north\nopenstack_region_name: nowhere\n",
    "passwords.yml": """\
database_password: db-pw
keystone_admin_password: admin-pw
rabbitmq_password: bus-pw
rabbitmq_cluster_cookie: cookie
nova_keystone_password: nova-pw
nova_database_password: db-pw
placement_keystone_password: placement-pw
neutron_keystone_password: neutron-pw
cinder_keystone_password: cinder-pw
glance_keystone_password: glance-pw
metadata_secret: meta-pw
""",
    "inventory.json": json.dumps(
        {
            "_meta": {"hostvars": {"control01": {"ansible_host": "10.1.0.11"}}},
            "control": {"hosts": ["control01", "control02"]},
            "rabbitmq": {"children": ["control"]},
            "ovn-nb-db": {"children": ["control"]},
            "ovn-sb-db": {"children": ["control"]},
            "ovn-sb-db-relay": {"children": ["control"]},
        }
    ),
}

OPENSTACK_ANSIBLE = {
    "openstack_user_config.yml": """\
global_overrides:
  internal_lb_vip_address: 172.29.236.9
  external_lb_vip_address: cloud.example.org
  provider_networks: []
""",
    "user_variables.yml": "service_region: south\nneutron_ovn_ssl: false\n",
    "user_secrets.yml": """\
galera_root_password: db-pw
keystone_auth_admin_password: admin-pw
nova_service_password: nova-pw
nova_oslomsg_rpc_password: bus-pw
neutron_oslomsg_rpc_password: neutron-bus-pw
glance_service_password: glance-pw
nova_metadata_proxy_secret: meta-pw
""",
    "pki/roots/ExampleCorpRoot/certs/ExampleCorpRoot.crt": "PEM root\n",
    "openstack_inventory.json": json.dumps(
        {
            "_meta": {
                "hostvars": {
                    "infra1_rabbit_mq_container": {
                        "ansible_host": "172.29.236.21",
                        "management_address": "172.29.236.31",
                    },
                    "infra1": {"ansible_host": "172.29.236.11"},
                }
            },
            "rabbitmq_all": {"hosts": ["infra1_rabbit_mq_container"]},
            "neutron_ovn_northd": {"hosts": ["infra1"]},
        }
    ),
}

DEVSTACK = {
    "local.conf": """\
[[local|localrc]]
# a comment
HOST_IP=192.0.2.5
ADMIN_PASSWORD=admin-pw
SERVICE_PASSWORD='service pw'
DATABASE_PASSWORD=db-pw
REGION_NAME="$SITE"   # another
SITE=west
enable_plugin dockstack https://example.org/dockstack
[[post-config|$NOVA_CONF]]
[DEFAULT]
HOST_IP=203.0.113.1
""",
    ".localrc.password": "RABBIT_PASSWORD=bus-pw\n",
    ".stackenv": "# 2026\nENABLED_SERVICES=key,n-cpu,c-api,rabbit\nKEYSTONE_SERVICE_URI=http://192.0.2.5/identity\n",
}


def write(files, directory, **changed):
    """Write files, of which some are changed by their names (None: left out), and return the directory."""
    for name, text in {**files, **changed}.items():
        if text is not None:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return directory
