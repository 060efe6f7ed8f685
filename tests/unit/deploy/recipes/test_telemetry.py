# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack.deploy.configuration import exporter
from dockstack.deploy.hypervisors.docker import METRICS_FILE, Docker
from dockstack.deploy.recipes import telemetry as recipe
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted.inventory import load
from dockstack.telemetry.exporter import parser

pytestmark = pytest.mark.unit

WANTED = "telemetry.prometheus=true"


def attributes(*assignments):
    return load(None, assignments).local.attributes


def service(*assignments):
    return exporter.service(attributes(WANTED, *assignments), "/var/lib/docker", METRICS_FILE)


def test_it_is_started_as_a_user_of_its_own_without_groups(machine, monkeypatch):
    one, started = machine({"id -Gn": {"success": False}}, WANTED), []
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: started.append(service))
    recipe.start(one)
    (made,) = started
    assert (made.user, made.groups) == ("dockstack-exporter", ())
    assert any(line.startswith("useradd --system") and line.endswith(" dockstack-exporter") for line in one.commands)


def test_it_is_off_unless_asked_for(machine, monkeypatch):
    monkeypatch.setattr(recipe, "ensure_running", lambda *_: pytest.fail("it was started"))
    one = machine({})
    recipe.start(one)
    assert not one.commands


def test_disabling_takes_away_what_enabling_made(machine):
    one = machine({})
    one.records.define(service())
    recipe.start(one)
    assert not one.records.services()
    assert any(METRICS_FILE in line and line.startswith("rm ") for line in one.commands), one.commands


def test_a_further_host_has_its_own_where_the_machine_reaches_it(machine, monkeypatch):
    one, started = machine({"hostname;": "node\nnetdev"}, WANTED, "hosts=2"), []
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: started.append(service))
    recipe.start_on(one, "host2")
    (made,) = started
    assert (made.name, made.inside) == ("host2-exporter", "host2")
    options = vars(parser().parse_args(made.command[1:]))
    assert (options["host"], options["address"]) == ("node-2", "198.19.77.2")
    assert made.check.target == "http://198.19.77.2:9958/"


def test_a_further_hosts_goes_when_nobody_wants_it_and_others_stay(machine):
    one = machine({}, "hosts=2")
    for name in ("host2-exporter", "host22-exporter"):
        one.records.define(replace(service(), name=name, inside=name.partition("-")[0]))
    recipe.start_on(one, "host2")
    assert [each.name for each in one.records.services()] == ["host22-exporter"]
    assert any(line.endswith("/hosts/host2/var/lib/nova/compute.prom") for line in one.commands), one.commands


def test_its_options_are_those_that_the_program_knows():
    options = vars(parser().parse_args(service("telemetry.address=10.1.0.5", "ports.exporter=9000").command[1:]))
    assert (options["address"], options["port"]) == ("10.1.0.5", 9000)
    assert str(options["compute"]) == METRICS_FILE


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("127.0.0.1", "http://127.0.0.1:9958/"),
        ("0.0.0.0", "http://127.0.0.1:9958/"),
        ("::", "http://[::1]:9958/"),
        ("10.1.0.5", "http://10.1.0.5:9958/"),
    ],
)
def test_it_is_asked_where_it_listens(address, asked):
    assert service(f"telemetry.address='{address}'").check.target == asked


def test_nova_compute_counts_only_then():
    def options(*assignments):
        return dict(dict(Docker(attributes(*assignments)).contribution().nova)["docker"])

    assert "metrics_file" not in options()
    assert options(WANTED)["metrics_file"] == METRICS_FILE


def test_it_starts_after_nova_compute_and_only_beside_docker():
    stages = {stage.name: stage for stage in node_stages(load(None, [WANTED]).local)}
    assert stages["exporter"].after == ("compute",)
    assert "exporter" not in {stage.name for stage in node_stages(load(None, [WANTED, "hypervisor=fake"]).local)}
    further = {stage.name: stage for stage in node_stages(load(None, [WANTED, "hosts=2"]).local)}
    assert further["host2-exporter"].after == ("host2-compute",)
