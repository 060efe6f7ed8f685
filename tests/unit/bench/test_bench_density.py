# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from dockstack.bench import density, plots
from dockstack.bench.control_plane_baseline import is_of_this_host, runs_beside_us
from dockstack.bench.density import Densities, Level
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
LEVEL = Level(100, 5.0, 0.4, 4.8, 3.2, 0.015, 0.01, 0.02)


def test_the_goals_are_judged_at_the_highest_level():
    crowded = Level(300, 6.0, 0.9, 4.8, 3.9, 0.03, 0.01, 0.06)
    assert [note.split(":")[0] for note in density.notes_of(Densities((LEVEL,)))] == ["goal met", "goal met"]
    notes = density.notes_of(Densities((LEVEL, crowded), "300 servers run; the next: No valid host"))
    assert [note.split(":")[0] for note in notes] == ["ended early", "goal MISSED", "goal MISSED"]
    assert "1.25 x the memory" in notes[1]
    assert notes[1].endswith("without what the cloud's services grew by, 1.06 x")


def test_another_process_of_the_machine_is_weighed(monkeypatch):
    hold = "ballast = b'x' * (96 << 20); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        others = [psutil.Process(), psutil.Process(process.pid)]  # the rest of the machine grows and shrinks meanwhile
        monkeypatch.setattr(psutil, "process_iter", lambda: others)
        assert 96 < density.services_memory_mib() < 144
        process.stdin.close()


def test_table_document_and_picture(tmp_path):
    measured = Densities((LEVEL,), machine={"cores": 2})
    assert density.table_of(measured).row_count == 1
    assert density.document_of(measured)["levels"][0]["servers"] == 100
    plots.draw(measured, tmp_path / "density.png")
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")


def test_something_else_has_no_picture(tmp_path):
    with pytest.raises(TypeError, match="no picture of str"):
        plots.draw("something", tmp_path / "x.png")


def test_a_busy_process_is_seen_to_be_busy():
    began = density.processor_seconds(os.getpid())
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert density.processor_seconds(os.getpid()) - began >= 0.1
    assert os.getpid() in density.find_processes(next(iter(_own_names())))


def test_a_process_of_a_further_host_is_not_this_ones():
    """Further hosts on this machine have a network namespace of their own."""
    line = ["unshare", "--map-root-user", "--net", "sh", "-c", "echo in; read hold"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout.readline() != b"in\n":
            pytest.skip("this kernel gives ordinary users no network namespaces")
        assert runs_beside_us(process.pid)
        assert not is_of_this_host(process.pid)
        process.stdin.close()
    assert is_of_this_host(os.getpid())


def _own_names():
    with open(f"/proc/{os.getpid()}/cmdline") as file:  # noqa: PTH123
        return [os.path.basename(each) for each in file.read().split("\0")[:1]]  # noqa: PTH119


class Placement:
    def __init__(self, status=200):
        self.inventory, self.status = {"allocation_ratio": 16.0, "total": 2, "resource_provider_generation": 7}, status

    def get(self, path):
        assert path == "/resource_providers/p/inventories/VCPU"
        return SimpleNamespace(json=lambda: dict(self.inventory))

    def put(self, _path, json):
        assert json["resource_provider_generation"] == 7
        self.inventory = json
        return SimpleNamespace(status_code=self.status, text="conflict")


def test_the_overcommit_is_set_and_what_it_was_returned():
    placement = Placement()
    cloud = SimpleNamespace(placement=placement)
    assert density._set_ratio(cloud, "p", "VCPU", 1000.0) == 16.0
    assert placement.inventory["allocation_ratio"] == 1000.0
    with pytest.raises(DockstackError, match="overcommit"):
        density._set_ratio(SimpleNamespace(placement=Placement(409)), "p", "VCPU", 1.0)
