# SPDX-License-Identifier: Apache-2.0
"""The kernel's files, read as Nova wants them."""

from __future__ import annotations

import os

import pytest

from dockstack.compute.flows.report import number_version, seconds_since
from dockstack.compute.resources import usage

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        path.write_text(text)
        return path

    return write


def test_memory(file):
    found = usage.read_memory(
        file("MemTotal:  8000000 kB\nMemFree: 10 kB\nMemAvailable: 6000000 kB\nHugePages_Total: 0\n")
    )
    assert (found.total_mb, found.available_mb, found.used_mb) == (7812, 5859, 1953)


def test_memory_of_a_kernel_that_does_not_say_what_is_available(file):
    assert usage.read_memory(file("MemTotal: 2048 kB\nMemFree: 1024 kB\n")).available_mb == 1


def test_disk_of_a_directory_that_is_not_there():
    assert usage.read_disk("/nonexistent/engine").total_gb == usage.read_disk("/").total_gb


def test_cpu_times(file):
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    found = usage.read_cpu_times(
        file("cpu  100 10 50 1000 7 1 2 0 0 0\ncpu0 1 1 1 1\n"), file("processor : 0\ncpu MHz : 2399.6\n")
    )
    assert found == usage.CpuTimes(110 * tick, 53 * tick, 1000 * tick, 7 * tick, 2400)


def test_an_architecture_without_a_clock_has_frequency_0(file):
    assert usage.read_frequency(file("processor : 0\nCPU part : 0xd0c\n")) == 0


def test_cpu_info(file):
    text = "processor : 0\nvendor_id : GenuineIntel\nmodel name : Xeon\nflags : sse2 avx\n\nmodel name : other\n"
    assert usage.read_cpu_info(file(text)) == {"model": "Xeon", "vendor": "GenuineIntel", "features": ["avx", "sse2"]}


@pytest.mark.parametrize(
    ("seconds", "up"),
    [("59.1", "up  0:00,"), ("3720.0", "up  1:02,"), ("90061.5", "up 1 day,  1:01,"), ("180000", "up 2 days,  2:00,")],
)
def test_uptime(file, seconds, up):
    said = usage.read_uptime(file(f"{seconds} 1.0\n"), file("0.10 0.20 0.30 1/100 1234\n"))
    assert up in said
    assert said.endswith("load average: 0.10, 0.20, 0.30\n")


def test_a_port_is_told_from_the_servers_side(tmp_path):
    lines = ["Inter-|  Receive  |  Transmit", " face |bytes packets errs drop ..."]
    lines += ["  tap1: 10 11 13 12 0 0 0 0 20 21 23 22 0 0 0 0", "    lo:1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0"]
    (tmp_path / "dev").write_text("\n".join(lines))
    found = usage.read_ports(tmp_path / "dev")
    assert found["tap1"] == usage.PortUsage(20, 21, 22, 23, 10, 11, 12, 13)
    assert set(found) == {"tap1", "lo"}


def test_ports_of_this_machine_can_be_read():
    assert "lo" in usage.read_ports()


def test_kills_for_want_of_memory(file):
    assert usage.read_oom_kills(file("nr_free_pages 7\noom_kill 3\n")) == 3
    assert usage.read_oom_kills(file("nr_free_pages 7\n")) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("20.10.24+dfsg1", 20_010_024), ("26.1.5", 26_001_005), ("27.0.0-rc.1", 27_000_000), ("dev", 0)],
)
def test_versions_are_numbers_to_nova(text, number):
    assert number_version(text) == number


def test_seconds_since():
    assert seconds_since("2020-01-01T00:00:00.123456789Z") > 180_000_000
    assert seconds_since("") == 0
