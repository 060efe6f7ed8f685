# SPDX-License-Identifier: Apache-2.0
"""Which services a change of an attribute restarts: those whose definition or files it changes, and no other."""

from __future__ import annotations

import pytest

from dockstack.deploy import paths
from dockstack.deploy.configuration import programs
from dockstack.deploy.configuration.glance import glance_api_conf
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.nova import nova_conf
from dockstack.deploy.configuration.settings import SECRET_NAMES
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.recipes.facts import settings_from
from dockstack.deploy.supervision.backends import systemd
from dockstack.deploy.supervision.services import definition_hash

pytestmark = pytest.mark.unit
COMPUTE, IMAGES, AGENT = "nova-compute", "glance-api", "neutron-ovn-agent"


def hashes(node, versions=None):
    """What decides on a restart of each service: its definition, and the content of the files that it watches."""
    plugin = chosen(node)
    added = plugin.contribution() if plugin else None
    secrets = dict.fromkeys(SECRET_NAMES, "x")
    settings = settings_from(node.attributes, added, secrets, hostname="one", datapath="system")
    groups, watch = (added.groups, added.watch) if added else ((), ())
    services = (
        *programs.glance(settings),
        *programs.neutron(settings),
        *programs.nova_control(settings),
        *(programs.nova_compute(settings, groups, watch) if plugin else ()),
    )
    written = {
        "/etc/nova/nova.conf": render_ini(nova_conf(settings)),
        "/etc/glance/glance-api.conf": render_ini(glance_api_conf(settings)),
        **(versions or {}),
    }
    watched = {one.name: {path: written.get(path, "") for path in one.watch} for one in services}
    return {one.name: definition_hash(one, systemd.render(one), watched[one.name], {}) for one in services}


def changed(before, after):
    return {name for name in before if before[name] != after.get(name)}


def novas(before):
    """The services that read nova.conf."""
    return {name for name in before if name.startswith("nova-")}


def test_the_same_attributes_restart_nothing(node):
    assert changed(hashes(node()), hashes(node())) == set()


@pytest.mark.parametrize(
    ("assignment", "restarted"),
    [
        ("docker.group=engine", {COMPUTE}),
        ("image.container_formats=[mine]", {IMAGES}),
        ("network.tenant_name=mine", set()),
        ("docker.socket_mode=600", set()),  # changed on the socket itself
    ],
)
def test_an_attribute_restarts_what_runs_on_it(node, assignment, restarted):
    assert changed(hashes(node()), hashes(node(assignment))) == restarted


def test_another_socket_restarts_what_reads_novas_file(node):
    before = hashes(node())
    assert changed(before, hashes(node("docker.socket=/run/other.sock"))) == novas(before)


def test_another_driver_restarts_what_has_loaded_it(node):
    before = hashes(node(), {paths.DRIVER_MARKER: "1"})
    assert changed(before, hashes(node(), {paths.DRIVER_MARKER: "2"})) == {COMPUTE, AGENT}


def test_another_release_of_the_code_restarts_all(node):
    before = hashes(node(), {paths.LOCK_MARKER: "1"})
    assert changed(before, hashes(node(), {paths.LOCK_MARKER: "2"})) == set(before)


def test_disabling_ends_nova_compute_and_takes_what_it_added_from_the_others(node):
    before, after = hashes(node()), hashes(node("docker.enable=false"))
    assert COMPUTE not in after
    assert changed(before, after) >= {COMPUTE, IMAGES, AGENT}
    assert not {"neutron-api", "neutron-ovn-maintenance-worker"} & changed(before, after)
    assert changed(after, before) == changed(before, after) - {COMPUTE}, "and enabling it again the same"
