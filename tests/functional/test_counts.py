# SPDX-License-Identifier: Apache-2.0
"""What nova-compute counts for Prometheus when Nova itself drives it."""

from __future__ import annotations

from pathlib import Path

import fixtures
import pytest
from nova_case import ServersCase
from prometheus_client.parser import text_string_to_metric_families

from dockstack.compute.host.counts import PHASES

pytestmark = pytest.mark.functional


class TestCounts(ServersCase):
    def setUp(self):
        self.path = Path(self.useFixture(fixtures.TempDir()).path) / "compute.prom"
        super().setUp()

    def _start_compute(self, host, *arguments, **named):
        self.flags(metrics_file=str(self.path), group="docker")
        return super()._start_compute(host, *arguments, **named)

    def counted(self) -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(self.path.read_text())
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}

    def test_a_boot_with_its_phases_and_what_fails(self):
        assert self.counted()["dockstack_compute_actions_total", "spawn", "done"] == 0, "there from the start"
        self.boot(networks="none")
        self.images.data.clear()
        self.images.add("76fa36fc-c930-4bf3-8c8a-ea2a2420deb7", b"no archive")
        self.boot(image="76fa36fc-c930-4bf3-8c8a-ea2a2420deb7", networks="none", expected="ERROR")
        found = self.counted()
        assert found["dockstack_compute_actions_total", "spawn", "done"] == 1
        assert found["dockstack_compute_actions_total", "spawn", "failed"] == 1
        phases = {
            key[1]: value for key, value in found.items() if key[0] == "dockstack_compute_boot_phase_seconds_count"
        }
        assert phases == dict.fromkeys(PHASES, 1)
