# SPDX-License-Identifier: Apache-2.0
"""What machines of the tests, servers on them and their cloud show of themselves."""

from __future__ import annotations

from cloud_of_machines import address_of

RUN = "dockstack.deploy.join.here"
LEFT = "/opt/dockstack /etc/dockstack /etc/nova /etc/neutron /var/lib/dockstack /var/lib/nova /run/netns/*"


def run_of(node):
    """Return the process id of a node's own run, "" if there is none."""
    return node.run(f"pgrep -o -f '[d]{RUN[1:]}'", check=False).stdout.strip()


def files_of(node):
    """Return the files of a machine's configuration and programs, with their times."""
    return node.run("find /etc /opt /usr /var/lib -xdev -type f -printf '%p %T@\\n' | sort").stdout


def processes_of(node):
    """Return the main processes of a node's services."""
    return node.run("systemctl show -p Id -p MainPID 'dockstack*.service' docker.service").stdout


def inside(machine, server, line):
    """Return what a line of shell prints in a server on a machine."""
    return machine.run(f"docker exec nova-{server.id} sh -c '{line}'").stdout.strip()


def container_of(machine, server):
    return machine.run(f"docker ps -aq --filter name={server.id}").stdout.strip()


def is_running(machine, server):
    return server.id in machine.run("docker ps --format '{{.Names}}'", check=False).stdout


def reaches(machine, server, other):
    line = f"docker exec nova-{server.id} ping -c 1 -W 2 {address_of(other)}"
    return machine.run(line, check=False).returncode == 0


def flat(done):
    """Return what a command printed, in one line."""
    return " ".join(f"{done.stdout} {done.stderr}".split())


def known_of(cloud, host):
    """Return what the cloud, and OVN, have of a host."""
    found = [f"service {one.host}" for one in cloud.connection.compute.services(binary="nova-compute", host=host)]
    found += [one.agent_type for one in cloud.connection.network.agents(host=host)]
    answer = cloud.connection.placement.get(f"/resource_providers?name={host}").json()
    found += [f"provider {one['name']}" for one in answer["resource_providers"]]
    for table in ("Chassis", "Chassis_Private"):
        rows = cloud.controller.run(f"ovn-sbctl --bare --columns=name find {table} name={host}").stdout
        found += [f"{table} {name}" for name in rows.split()]
    return found
