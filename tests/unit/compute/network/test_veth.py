# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.compute.model import Address, Port, Route
from dockstack.compute.network import veth
from dockstack.compute.network.veth import PlannedRoute, plan_routes

pytestmark = pytest.mark.unit

PORT = Port(id="p", mac="m", device="tap1", interface="eth0", network_id="n", mtu=1442)


def test_both_families_and_the_metadata_service() -> None:
    port = replace(PORT, addresses=(Address("10.0.0.5/24", "10.0.0.1"), Address("fd00::5/64", "fd00::1")))
    assert plan_routes(port) == (
        PlannedRoute("0.0.0.0/0", "10.0.0.1", 100),
        PlannedRoute("::/0", "fd00::1", 100),
        PlannedRoute("169.254.169.254/32", "", 100),
    )


@pytest.mark.parametrize(("interface", "metric"), [("eth0", 100), ("eth1", 101), ("eth12", 112), ("lan", 100)])
def test_the_first_nic_wins(interface, metric) -> None:
    port = replace(PORT, interface=interface, addresses=(Address("10.0.0.5/24", "10.0.0.1"),))
    assert {route.metric for route in plan_routes(port)} == {metric}


def test_host_routes_win() -> None:
    port = replace(
        PORT,
        addresses=(Address("10.0.0.5/24", "10.0.0.1"),),
        routes=(
            Route("169.254.169.254/32", "10.0.0.2"),
            Route("0.0.0.0/0", "10.0.0.9"),
            Route("10.5.1.1/16", "10.0.0.3"),
        ),
    )
    assert plan_routes(port) == (
        PlannedRoute("169.254.169.254/32", "10.0.0.2", 100),
        PlannedRoute("0.0.0.0/0", "10.0.0.9", 100),
        PlannedRoute("10.5.0.0/16", "10.0.0.3", 100),
    )


@pytest.mark.parametrize(
    ("how", "gateway", "via"),
    [
        ("gateway", "10.0.0.1", None),  # by the default route, to a router that answers
        ("gateway", None, "10.0.0.2"),
        ("dhcp", "10.0.0.1", "10.0.0.2"),
        ("dhcp", None, "10.0.0.2"),
    ],
)
def test_without_ovn_routers_answer_for_the_metadata_or_dhcp_servers(how, gateway, via) -> None:
    both = (Address("10.0.0.5/24", gateway, "10.0.0.2"), Address("fd00::5/64", None, "fd00::2"))
    port = replace(PORT, addresses=both)
    routes = {route.destination: route.gateway for route in plan_routes(port, how)}
    assert routes.get("169.254.169.254/32") == via
    named = replace(port, routes=(Route("169.254.169.254/32", "10.0.0.9"),))
    assert {route.destination: route.gateway for route in plan_routes(named, how)}["169.254.169.254/32"] == "10.0.0.9"


def test_a_network_without_a_dhcp_server_has_no_such_route() -> None:
    port = replace(PORT, addresses=(Address("10.0.0.5/24", "10.0.0.1"),))
    assert [route.destination for route in plan_routes(port, "dhcp")] == ["0.0.0.0/0"]


def test_a_gateway_elsewhere_is_on_the_link_and_a_link_local_one_needs_no_help() -> None:
    port = replace(PORT, addresses=(Address("10.0.0.5/32", "10.9.0.1"), Address("fd00::5/64", "fe80::1")))
    assert plan_routes(port, "none") == (
        PlannedRoute("0.0.0.0/0", "10.9.0.1", 100, on_link=True),
        PlannedRoute("::/0", "fe80::1", 100),
    )


def test_a_port_without_addresses_has_no_routes() -> None:
    assert plan_routes(PORT) == ()
    assert plan_routes(replace(PORT, addresses=(Address("fd00::5/64"),))) == ()


def test_lists_pairs_of_ours(tmp_path) -> None:
    for name, alias in (("tap1", "nova-u\n"), ("tap2", "vm\n"), ("eth0", "nova-x\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ifalias").write_text(alias)
    (tmp_path / "tap3").mkdir()
    assert veth.wired(tmp_path) == {"tap1": "u"}
