# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.containers.limits import changes, host_config, update_values
from dockstack.compute.model import DiskRates, Limits
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def test_values() -> None:
    assert update_values(Limits(vcpus=4, memory_mb=256, disk_gb=1, pids=100, cpu_shares=5)) == {
        "Memory": 256 << 20,
        "MemorySwap": 256 << 20,
        "CpuPeriod": 100_000,
        "CpuQuota": 400_000,
        "CpuShares": 5,
        "PidsLimit": 100,
    }
    assert host_config(Limits(vcpus=1, memory_mb=64, disk_gb=1))["Ulimits"] == []


def test_every_limit_of_a_flavor() -> None:
    found = host_config(
        Limits(
            vcpus=2,
            memory_mb=64,
            disk_gb=5,
            swap_mb=32,
            cpu_period=50_000,
            cpu_quota=10_000,
            cpus=(0, 1, 3),
            memory_nodes=(0,),
            disk_rates=DiskRates(read_bytes=1000, write_iops=5),
        ),
        "/dev/vda",
        sized=True,
    )
    assert found["MemorySwap"] == 96 << 20
    assert (found["CpuPeriod"], found["CpuQuota"]) == (50_000, 20_000)
    assert (found["CpusetCpus"], found["CpusetMems"]) == ("0-1,3", "0")
    assert found["BlkioDeviceReadBps"] == [{"Path": "/dev/vda", "Rate": 1000}]
    assert found["BlkioDeviceWriteIOps"] == [{"Path": "/dev/vda", "Rate": 5}]
    assert "BlkioDeviceWriteBps" not in found
    assert found["StorageOpt"] == {"size": "5G"}


def test_disk_rates_need_a_disk() -> None:
    with pytest.raises(DockstackError, match="on no disk of this host"):
        host_config(Limits(1, 64, 1, disk_rates=DiskRates(read_bytes=1)))


@pytest.mark.parametrize(("shares", "vcpus", "expected"), [(None, 300, 262_144), (1, 1, 2), (None, 1, 1024)])
def test_shares_stay_where_the_kernel_takes_them(shares, vcpus, expected) -> None:
    assert update_values(Limits(vcpus, 64, 1, cpu_shares=shares))["CpuShares"] == expected


@pytest.mark.parametrize(("vcpus", "memory"), [(1, 0), (1, 5), (0, 64)])
def test_no_limit_by_accident(vcpus, memory) -> None:
    with pytest.raises(DockstackError, match="Choose a flavor"):
        update_values(Limits(vcpus, memory, 1))


def write(path, text) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_changes_are_all_or_nothing() -> None:
    tiny, small = Limits(vcpus=1, memory_mb=64, disk_gb=1), Limits(vcpus=1, memory_mb=128, disk_gb=1)
    now = host_config(tiny) | {"Privileged": False}
    assert changes(now, tiny) == {}
    assert changes(now, small) == update_values(small)
