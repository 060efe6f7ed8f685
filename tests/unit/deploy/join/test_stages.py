# SPDX-License-Identifier: Apache-2.0
"""How a machine makes itself a compute node: which stages, in which order, with which files and services."""

from __future__ import annotations

import re

import pytest

from dockstack.deploy.configuration import compute_node
from dockstack.deploy.join import stages
from dockstack.deploy.join.stages import ComputeNode
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.node.secrets import GivenSecrets
from dockstack.deploy.recipes.facts import settings_with
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
ONE = {"hostname;": "one\nsystem\n", "stat -c": {"success": False}, "id -Gn": {"success": False}}


@pytest.fixture
def become(cloud, machine, node):
    """The machine that becomes a node, and its stages by their names; with further answers of the machine."""

    def build(**answers):
        told = node("network.encap_ip=10.1.0.31", roles=frozenset({Role.COMPUTE}))
        made = machine({**ONE, **answers}, "network.encap_ip=10.1.0.31")
        made.node = told
        made.secrets = GivenSecrets(cloud.secrets())
        return made, {stage.name: stage for stage in ComputeNode(told, cloud).stages()}

    return build


@pytest.fixture
def here(become):
    return become()


def before(graph, name):
    found, waiting = set(), [name]
    while waiting:
        for other in graph[waiting.pop()].after:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def test_no_stage_of_a_controller_is_among_them(here):
    _, graph = here
    assert set(graph) == {
        *("foundation", "packages", "accounts", "command-line", "openstack-environment", "supervisor"),
        *(
            "nova-files",
            "hypervisor-install",
            "hypervisor-configure",
            "hypervisor-start",
            "name",
            "switch",
            "agent",
            "compute",
            "exporter",
            "mounts",
            "migration",
            "known",
        ),
    }


def test_nova_compute_starts_last(here):
    _, graph = here
    assert before(graph, "compute") >= {"nova-files", "switch", "hypervisor-start", "openstack-environment"}
    assert "hypervisor-configure" in before(graph, "agent"), "the agent's extension comes with the driver"


def test_the_files_are_those_of_the_plan_and_only_their_services_read_secrets(here, cloud):
    machine, graph = here
    graph["nova-files"].apply(machine)
    wanted = compute_node.files(cloud, settings_with(machine, {}))
    moved = [re.search(r"chown -h (\S+) .* chmod (\d+) .* mv -f \S+ (\S+)$", line) for line in machine.commands]
    written = {found[3]: (found[1], int(found[2], 8)) for found in moved if found}
    assert written == {path: (f"root:{file.group}", file.mode) for path, file in wanted.items()}
    assert written[compute_node.NOVA_CONF] == ("root:nova", 0o640)


def test_nothing_secret_is_on_a_command_line_and_no_secret_is_made(here, cloud, tmp_path):
    machine, graph = here
    for name in ("foundation", "accounts", "nova-files"):
        graph[name].apply(machine)
    assert cloud.secrets()
    assert not [secret for secret in cloud.secrets() if secret in "\n".join(machine.commands)]
    assert not (tmp_path / "secrets.yaml").exists()


def test_users_are_made_for_the_services_of_a_node_only(here):
    machine, graph = here
    graph["accounts"].apply(machine)
    made = {line.split()[-1] for line in machine.commands if line.startswith("useradd ")}
    assert made == {"nova", "neutron"}


def test_each_service_of_a_node_is_started_once(here, cloud, monkeypatch):
    machine, graph = here
    started = []
    monkeypatch.setattr(stages, "ensure_running", lambda _, service: started.append(service))
    monkeypatch.setattr(stages.migration, "start_on_node", lambda _, service: started.append(service))
    for name in ("switch", "agent", "migration", "compute"):
        graph[name].apply(machine)
    assert [one.name for one in started] == [*stages.FABRIC, "neutron-ovn-agent", "migration", "nova-compute"]
    assert compute_node.here(cloud) == {one.name for one in started}
    assert "docker" in next(one for one in started if one.name == "nova-compute").groups
    entries = {(entry.kind, entry.name) for entry in machine.manifest.entries()}
    assert ("metadata-namespaces", "ovnmeta-*") in entries


def test_a_host_registers_disabled_before_nova_compute_starts_and_only_once(here, cloud, monkeypatch):
    machine, _ = here
    before_start = []
    monkeypatch.setattr(stages, "ensure_running", lambda *_: before_start.append("".join(machine.commands)))
    graph = {stage.name: stage for stage in ComputeNode(machine.node, cloud, "not proven yet").stages()}
    graph["compute"].apply(machine)
    assert "runuser -u nova" in before_start[0]
    assert "register_host.py" in before_start[0]
    machine.commands.clear()
    graph["compute"].apply(machine)
    assert "register_host.py" not in before_start[1]


def test_nothing_of_a_node_runs_before_it_is_known_that_no_other_machine_is_it(become):
    machine, graph = become()
    assert "name" in before(graph, "switch") & before(graph, "compute")
    graph["name"].apply(machine)
    asked = [line for line in machine.commands if "await_provider.py" in line][-1]
    assert asked.rstrip("'\"").endswith("await_provider.py one")
    machine, graph = become(**{asked: {"success": False, "stderr": ["The cloud has a host one already; placement-pw"]}})
    with pytest.raises(StepFailedError, match="cannot become the host one") as refused:
        graph["name"].apply(machine)
    assert "has a host one already" in refused.value.details
    assert "placement-pw" not in refused.value.details


def test_a_node_that_does_not_reach_its_cloud_has_not_joined(become):
    machine, graph = become()
    graph["known"].apply(machine)
    asked = [line for line in machine.commands if "await_provider.py" in line][-1]
    assert "await_provider.py one 240" in asked
    told = {"success": False, "stderr": ["No answer from rabbit://nova:bus-pw@10.1.0.11, nor for placement-pw."]}
    machine, graph = become(**{asked: told})
    with pytest.raises(StepFailedError, match="does not know this host") as failed:
        graph["known"].apply(machine)
    assert failed.value.details == "No answer from rabbit://nova:********@10.1.0.11, nor for ********."


def test_a_node_without_servers_is_refused(cloud, node):
    with pytest.raises(DockstackError, match="runs no servers"):
        ComputeNode(node("docker.enable=false", roles=frozenset({Role.COMPUTE})), cloud)
