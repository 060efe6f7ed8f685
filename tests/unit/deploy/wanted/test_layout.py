# SPDX-License-Identifier: Apache-2.0
"""Which environment files `up` takes, and what it says of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockstack.deploy.wanted.inventory import load
from dockstack.deploy.wanted.layout import other_machines, require_possible
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
REACHED = "attributes: {listen_address: 192.0.2.1, network.encap_ip: 192.0.2.1, tls.enable: true}"
HERE = f"here: {{roles: [controller, network], {REACHED}}}"
EVERYWHERE = "here: {{attributes: {{listen_address: 0.0.0.0, tls.enable: true, network.encap_ip: {}}}}}, far: "
EVERYWHERE += "{{connector: '@ssh', roles: [compute]}}"
FAR = "far: {connector: '@ssh', roles: [compute]}"


@pytest.fixture
def inventory(tmp_path):
    def write(text, *assignments):
        (tmp_path / "environment.yaml").write_text(text)
        return load(tmp_path / "environment.yaml", assignments)

    return write


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("", []),
        ("nodes: {here: {roles: [controller, compute]}}", []),
        (f"nodes: {{{HERE}, {FAR}}}", ["far"]),
        (f"nodes: {{here: {{{REACHED}}}, {FAR}, {FAR.replace('far', 'second')}}}", ["far", "second"]),
        (f"nodes: {{{EVERYWHERE.format('192.0.2.1, public_address: cloud.example.org')}}}", ["far"]),
    ],
    ids=["no-file", "one", "controller-alone", "two-nodes", "listens-everywhere-and-has-a-name"],
)
def test_one_controller_here_and_compute_nodes_elsewhere_are_a_cloud(inventory, text, others):
    found = inventory(text)
    require_possible(found)
    assert [node.name for node in other_machines(found)] == others


@pytest.mark.parametrize(
    ("text", "brief", "cure"),
    [
        (f"{HERE}, far: {{connector: '@ssh'}}", "Node far is to be a controller over SSH", "without roles has all"),
        ("far: {connector: '@ssh', roles: [controller, network]}", "far is to be a controller", "run this command th"),
        (f"{HERE}, far: {{connector: '@ssh', roles: [compute, network]}}", "roles compute, network", "controller's"),
        (f"{HERE}, far: {{connector: '@ssh', roles: []}}", "Node far is to have no role", "[compute]"),
        (f"{HERE}, second: {{}}, {FAR}", "here and second are both to be this machine", "Give second connector"),
        (FAR, "No node of the environment file is this machine", "@local"),
        (f"here: {{roles: [controller], {REACHED}}}, {FAR}", "here (this machine) has not the role network", "roles:"),
        (f"here: {{roles: [compute], {REACHED}}}, {FAR}", "has not the role controller", "[controller, network]"),
        (
            f"here: {{}}, {FAR}",
            "far could not reach this machine: listen_address is 127.0.0.1 and network.encap_ip",
            "tls.enable",
        ),
        (
            f"here: {{attributes: {{listen_address: 192.0.2.1, tls.enable: true}}}}, {FAR}",
            "far could not reach this machine: network.encap_ip is 127.0.0.1.",
            "Under nodes: here: attributes:",
        ),
        (EVERYWHERE.format("192.0.2.1"), "far could not reach this machine: listen_address is 0.0.0.0.", "listen_addr"),
        (EVERYWHERE.format("0.0.0.0"), "listen_address is 0.0.0.0 and network.encap_ip is 0.0.0.0.", "encap_ip"),
        (
            EVERYWHERE.format("192.0.2.1, public_address: localhost"),
            "this machine: public_address is localhost.",
            "attributes: set public_address to its",
        ),
        (EVERYWHERE.format("192.0.2.1, public_address: 127.0.0.1"), "this machine: public_address is 127.0.0.1.", "se"),
        (
            EVERYWHERE.replace("0.0.0.0", "127.0.0.1").format("192.0.2.1, public_address: 192.0.2.1"),
            "this machine: listen_address is 127.0.0.1.",
            "listen_address",
        ),
    ],
    ids=[
        *("second-controller", "controller-over-ssh", "network-elsewhere", "no-role", "two-here", "none-here"),
        *("no-network", "no-controller", "loopback", "tunnels-on-loopback", "everywhere", "tunnels-everywhere"),
        *("public-localhost", "public-loopback", "public-that-nobody-listens-at"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(inventory, text, brief, cure):
    with pytest.raises(DockstackError) as refused:
        require_possible(inventory(f"nodes: {{{text}}}"))
    assert brief in refused.value.brief
    assert cure in refused.value.resolution


def test_the_end_of_this_machines_tunnels_is_nobody_elses(inventory):
    several = inventory(f"nodes: {{{HERE}, {FAR}}}", "network.encap_ip=192.0.2.1")
    with pytest.raises(DockstackError, match=r"Tunnels of far would end at 192\.0\.2\.1, which is this machine"):
        require_possible(several)


def test_the_guides_example_is_one(inventory):
    guide = (Path(__file__).parents[4] / "docs/nodes.md").read_text()
    found = inventory(guide.split("```yaml\n")[1].split("```")[0])
    require_possible(found)
    assert [node.name for node in other_machines(found)] == ["twelve", "thirteen"]
    assert other_machines(found)[1].attributes.number("compute.reserved_memory_mb") == 2048
