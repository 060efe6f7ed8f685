# SPDX-License-Identifier: Apache-2.0
"""Flavors' limits through Nova's real code: extra specs, processors of one's own, and what Placement is told."""

from __future__ import annotations

import os

import pytest
from nova import exception, objects
from nova.api.validation.extra_specs import base
from nova_case import ServersCase
from test_translation import TranslationCase

from dockstack.compute.extra_specs import OURS
from dockstack.compute.model import Bandwidth, DiskRates, NumaNode
from dockstack.compute.nova_api import limits, processors, servers, validators

pytestmark = pytest.mark.functional


class TestFlavors(TranslationCase):
    def limits(self, **specs):
        instance = self.instance({name.replace("__", ":"): value for name, value in specs.items()})
        return limits.build_limits(instance, instance.flavor)

    def test_limits_of_the_flavor_and_of_the_options(self):
        self.flags(pids_limit=100, nofile_limit=200, group="docker")
        found = self.limits()
        assert (found.vcpus, found.memory_mb, found.disk_gb, found.swap_mb) == (2, 512, 3, 0)
        assert (found.pids, found.nofile, found.cpu_shares) == (100, 200, None)

    def test_extra_specs_win(self):
        found = self.limits(docker__pids_limit="70", docker__nofile_limit="80", quota__cpu_shares="9")
        assert (found.pids, found.nofile, found.cpu_shares) == (70, 80, 9)

    def test_rates(self):
        found = self.limits(
            quota__cpu_period="50000",
            quota__cpu_quota="25000",
            quota__disk_read_bytes_sec="1000",
            quota__disk_total_bytes_sec="2000",
            quota__disk_write_iops_sec="30",
            quota__vif_inbound_average="125",
            quota__vif_outbound_average="250",
            quota__vif_outbound_burst="64",
        )
        assert (found.cpu_period, found.cpu_quota) == (50000, 25000)
        assert found.disk_rates == DiskRates(read_bytes=1000, write_bytes=2000, write_iops=30)
        assert (found.inbound, found.outbound) == (Bandwidth(125), Bandwidth(250, 64))

    def test_zero_and_a_negative_quota_are_no_limit(self):
        found = self.limits(quota__cpu_quota="-1", quota__disk_read_bytes_sec="0", quota__vif_inbound_average="0")
        assert (found.cpu_quota, found.disk_rates, found.inbound) == (None, DiskRates(), None)

    def test_what_cannot_be_read_or_had_is_refused_but_keeps_no_server_from_being_deleted(self):
        for name, value, reason in (
            ("docker:pids_limit", "many", "docker:pids_limit must be a whole number"),
            ("quota:disk_read_bytes_sec", "-1", "must be a whole number"),
            ("quota:vif_inbound_peak", "9", "quota:vif_inbound_average"),
            ("quota:cpu_period", "7", "must be from 1000 to 1000000"),
            ("quota:cpu_quota", "7", "must be at least 1000"),
            ("hw:cpu_realtime", "yes", "no real-time priority"),
        ):
            instance = self.instance({name: value})
            servers.describe(instance)
            with pytest.raises(exception.BuildAbortException, match=reason):
                servers.refuse_unsupported(instance, None)

    def test_a_feature_that_is_off_is_not_refused(self):
        servers.refuse_unsupported(self.instance({"hw:cpu_realtime": "no"}), None)

    def test_nova_validates_what_is_ours(self):
        found = {validator.name: validator for validator in validators.register()}
        assert set(found) == {spec.name for spec in OURS}
        assert all(isinstance(validator, base.ExtraSpecValidator) for validator in found.values())
        found["docker:pids_limit"].validate("docker:pids_limit", "4096")
        found["docker:no_new_privileges"].validate("docker:no_new_privileges", "true")
        for value in ("15", "all"):
            with pytest.raises(exception.ValidationError):
                found["docker:pids_limit"].validate("docker:pids_limit", value)


class TestProcessors(TranslationCase):
    def test_all_are_shared_unless_the_operator_divides_them(self):
        online = frozenset(range(8))
        assert processors.read_sets(online) == (online, frozenset())
        self.flags(cpu_dedicated_set="2-3", group="compute")
        assert processors.read_sets(online) == (frozenset(), {2, 3})
        self.flags(cpu_shared_set="0-1", group="compute")
        assert processors.read_sets(online) == ({0, 1}, {2, 3})
        with pytest.raises(exception.InvalidConfiguration, match=r"\[3\]"):
            processors.read_sets(frozenset(range(3)))

    def test_nova_reads_the_topology_back(self):
        node = NumaNode(1, frozenset({0, 1, 2, 3}), 1024, 0, (frozenset({0, 2}), frozenset({1, 3})))
        text = processors.build_topology((node,), {0, 1}, {2, 3})
        (cell,) = objects.NUMATopology.obj_from_db_obj(text).cells
        assert (cell.id, cell.cpuset, cell.pcpuset, cell.memory, cell.socket) == (1, {0, 1}, {2, 3}, 1024, 0)
        assert cell.siblings == [{0, 2}, {1, 3}]
        assert (cell.mempages[0].size_kb, cell.mempages[0].total) == (4, 262144)

    def test_traits_are_those_that_a_container_can_use(self):
        found = processors.build_cpu_traits(["avx2", "sse4_2", "pni", "vmx", "svm", "hypervisor", "bmi1"])
        assert found == {"HW_CPU_X86_AVX2", "HW_CPU_X86_SSE42", "HW_CPU_X86_SSE3", "HW_CPU_X86_BMI"}


class TestDedicated(ServersCase):
    """A server with processors of its own, from the flavor through the scheduler to the container."""

    CPU = min(os.sched_getaffinity(0))

    def setUp(self):
        others = sorted(os.sched_getaffinity(0) - {self.CPU})
        assert others, "this needs a machine with two processors"
        self.others = ",".join(map(str, others))
        super().setUp()

    def test_the_server_has_them_alone_and_the_others_keep_off(self):
        self.flags(cpu_dedicated_set=str(self.CPU), cpu_shared_set=self.others, group="compute")
        self.compute = self.restart_compute_service(self.compute, keep_hypervisor_state=False)
        uuid = self._get_provider_uuid_by_host("host1")
        inventory = self._get_provider_inventory(uuid)
        assert (inventory["PCPU"]["total"], inventory["PCPU"]["allocation_ratio"]) == (1, 1.0)
        assert inventory["VCPU"]["total"] == len(self.others.split(","))

        plain = self.flavor
        self.flavor = self._create_flavor(
            vcpu=1, memory_mb=64, disk=1, ephemeral=0, extra_spec={"hw:cpu_policy": "dedicated"}
        )
        pinned = self.boot(networks="none")
        assert self.cpus(pinned) == str(self.CPU)
        assert self._get_allocations_by_server_uuid(pinned["id"])[uuid]["resources"]["PCPU"] == 1

        another = self.boot(networks="none", expected="ERROR")
        assert "NUMA topology" in another["fault"]["message"] or "No valid host" in another["fault"]["message"]

        self.flavor = plain
        assert str(self.CPU) not in self.cpus(self.boot(networks="none")).split(",")

    def cpus(self, server):
        return self.world.specs[self.container(server).name].limits["CpusetCpus"]
