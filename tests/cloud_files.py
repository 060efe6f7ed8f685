# SPDX-License-Identifier: Apache-2.0
"""Files of clouds that others made, written by us after their deployers' documents; every secret can be told apart."""

from __future__ import annotations

DATABASE_PASSWORDS = ("db-nova-api-pw", "db-nova-pw", "db-neutron-pw")

KOLLA = {
    "nova.conf": """\
[DEFAULT]
debug = False
my_ip = 10.1.0.21
transport_url = rabbit://openstack:bus-pw@10.1.0.11:5672,openstack:bus-pw@10.1.0.12:5672//
compute_driver = libvirt.LibvirtDriver
[vnc]
novncproxy_host = $my_ip
server_listen = $my_ip
novncproxy_base_url = https://cloud.example.org:6080/vnc_lite.html
[serial_console]
enabled = true
base_url = wss://cloud.example.org:6083/
[oslo_messaging_rabbit]
use_queue_manager = true
heartbeat_in_pthread = false
amqp_durable_queues = true
rabbit_quorum_queue = true
rabbit_transient_quorum_queue = true
rabbit_stream_fanout = true
rabbit_qos_prefetch_count = 50
[glance]
cafile = /etc/ssl/certs/ca-certificates.crt
[cinder]
catalog_info = volumev3:cinderv3:internalURL
os_region_name = RegionOne
auth_url = http://10.1.0.10:5000
auth_type = password
project_domain_name = Default
user_domain_id = default
project_name = service
username = cinder
password = cinder-pw
cafile = /etc/ssl/certs/ca-certificates.crt
[neutron]
metadata_proxy_shared_secret = meta-pw
service_metadata_proxy = true
auth_url = http://10.1.0.10:5000
auth_type = password
cafile = /etc/ssl/certs/ca-certificates.crt
project_domain_name = Default
user_domain_id = default
project_name = service
username = neutron
password = neutron-pw
region_name = RegionOne
valid_interfaces = internal
[placement]
auth_type = password
auth_url = http://10.1.0.10:5000
username = placement
password = placement-pw
user_domain_name = Default
project_name = service
project_domain_name = Default
region_name = RegionOne
cafile = /etc/ssl/certs/ca-certificates.crt
valid_interfaces = internal
[service_user]
send_service_user_token = true
auth_url = http://10.1.0.10:5000
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = nova
password = nova-pw
cafile = /etc/ssl/certs/ca-certificates.crt
""",
    "neutron_ovn_metadata_agent.ini": """\
[DEFAULT]
nova_metadata_host = 10.1.0.10
nova_metadata_port = 8775
nova_metadata_protocol = http
metadata_proxy_shared_secret = meta-pw
[ovs]
ovsdb_connection = tcp:127.0.0.1:6640
[ovn]
ovn_nb_connection = tcp:10.1.0.11:6641,tcp:10.1.0.12:6641
ovn_sb_connection = tcp:10.1.0.11:16641
ovn_metadata_enabled = true
""",
}

# nova.conf of a controller, by hand: databases, $references, quotes, an option twice.
BY_HAND = {
    "nova.conf": """\
[DEFAULT]
my_ip = 192.0.2.5
transport_url = rabbit://nova:bus$$pw@$my_ip:5672/
[api_database]
connection = mysql+pymysql://nova:db-nova-api-pw@192.0.2.5/nova_api
[database]
connection = mysql+pymysql://nova:db-nova-pw@192.0.2.5/nova
[keystone_authtoken]
auth_url = http://192.0.2.5:5000/v3
username = nova
password = "nova-pw"
[placement]
auth_url = http://192.0.2.5:5000/v3
region_name = north
username = placement
password = placement-old
password = placement-pw
[neutron]
username = neutron
password = neutron-pw
metadata_proxy_shared_secret = meta-pw
""",
    "neutron.conf": """\
[DEFAULT]
core_plugin = ml2
transport_url = rabbit://neutron:neutron-bus-pw@192.0.2.5:5672/
[database]
connection = mysql+pymysql://neutron:db-neutron-pw@192.0.2.5/neutron
[placement]
auth_url = http://192.0.2.5:5000/v3
username = placement-of-neutron
password = other-pw
""",
    "ml2_conf.ini": """\
[ml2]
mechanism_drivers = openvswitch,l2population
[agent]
tunnel_types = vxlan
l2_population = True
[securitygroup]
firewall_driver = openvswitch
""",
}


def write(files, directory):
    """Write files and return their paths in order."""
    paths = [directory / name for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return paths
