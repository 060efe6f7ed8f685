# SPDX-License-Identifier: Apache-2.0
"""A host that is registered disabled before nova-compute starts, and what Nova does with it until it is enabled."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fixtures import MonkeyPatch
from nova import context as nova_context
from nova import objects
from nova.virt import node
from nova_case import ServersCase

from dockstack.deploy.payload import register_host

pytestmark = pytest.mark.functional
DISABLED = "COMPUTE_STATUS_DISABLED"
REASON = "dockstack node add: not proven yet"


def test_a_cell_without_conductors_is_said_in_one_line(tmp_path):
    conf = tmp_path / "nova.conf"
    conf.write_text(f"[DEFAULT]\ntransport_url = fake:/\nrpc_response_timeout = 1\nstate_path = {tmp_path}\n")
    line = f"from dockstack.deploy.payload import register_host; register_host.main('x', {str(conf)!r})"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("No nova-conductor answers on the message bus")
    assert not (tmp_path / "compute_id").exists(), "it is who nova-compute says it is"


class TestRegisteredHost(ServersCase):
    def setUp(self):
        super().setUp()
        self.api = self.admin_api
        node.LOCAL_NODE_UUID = None  # of another machine
        assert register_host.register("host2", REASON)
        self._start_compute("host2")
        self.provider = self._get_provider_uuid_by_host("host2")

    def service(self):
        (found,) = self.admin_api.get_services(host="host2", binary="nova-compute")
        return found

    def forced(self, expected):
        return self.boot(availability_zone="nova:host2", expected=expected, networks="none")

    def let_in(self):
        self._set_provider_traits(self.provider, sorted(set(self._get_provider_traits(self.provider)) - {DISABLED}))

    def test_nova_compute_takes_the_record_over_and_nothing_is_placed_there(self):
        assert (self.service()["status"], self.service()["disabled_reason"]) == ("disabled", REASON)
        assert self.service()["state"] == "up"
        assert DISABLED in self._get_provider_traits(self.provider)
        assert self.boot()["OS-EXT-SRV-ATTR:host"] == "host1"

    def test_an_administrators_server_comes_only_without_the_trait_and_others_not_even_then(self):
        assert "No valid host" in self.forced("ERROR")["fault"]["message"]
        self.let_in()
        assert self.forced("ACTIVE")["OS-EXT-SRV-ATTR:host"] == "host2"
        self.let_in()
        assert self.boot()["OS-EXT-SRV-ATTR:host"] == "host1"

    def test_who_is_registered_stays_as_it_is(self):
        assert register_host.register("host2", "another") is False
        assert register_host.register("host1", "another") is False
        assert self.service()["disabled_reason"] == REASON
        admin = nova_context.get_admin_context()
        assert objects.Service.get_by_compute_host(admin, "host1").disabled is False

    def test_one_that_is_older_than_all_others_is_refused_and_told_what_to_do(self):
        least = objects.service.SERVICE_VERSION  # of all that are there; Nova's own fixture says what this one has
        self.useFixture(MonkeyPatch("nova.objects.Service.get_minimum_version_multi", lambda *_, **__: least))
        self.useFixture(MonkeyPatch("nova.objects.service.SERVICE_VERSION", 60))
        node.LOCAL_NODE_UUID = None
        with pytest.raises(SystemExit, match=r"older than all that it has: .*v60.*the cloud's own release"):
            register_host.register("host3", REASON)
        assert not self.admin_api.get_services(host="host3", binary="nova-compute")
