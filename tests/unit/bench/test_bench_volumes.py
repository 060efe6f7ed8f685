# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess

import pytest

from dockstack.bench import plots, volumes
from dockstack.bench.volumes import ATTACH, DETACH, FILE, FLOOR, INSIDE, LOOP, SERVER, Latencies, Measured, Write
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

LATENCIES = Latencies({ATTACH: {SERVER: [1.0, 1.2, 2.0], FLOOR: [0.8]}, DETACH: {SERVER: [1.0], FLOOR: []}})
WRITES = {
    INSIDE: [Write(100, 2.0), Write(90, 1.0), Write(50, 1.0)],
    LOOP: [Write(100, 2.0), Write(100, 1.0), Write(50, 0.5)],
    FILE: [Write(200, 1.0), Write(200, 0.5), Write(100, 0.5)],
}
MEASURED = Measured(LATENCIES, WRITES, 256, "", {"cores": 2})


def test_a_share_is_the_median_of_rounds_as_each_met_its_own_machine():
    assert MEASURED.share(LOOP) == (1.0, 1.0)
    assert MEASURED.share(FILE) == (0.5, 0.5)


def test_notes_say_which_goals_are_met():
    attach, rate, syncs, file = volumes.notes_of(MEASURED)
    assert attach.startswith("goal met: attached after 1.20 s")
    assert rate.startswith("goal met: 1.00 x the bare device's rate")
    assert syncs.startswith("goal met: 1.00 x the bare device's syncs")
    assert file.startswith("beside a file of the host: 0.50 x")
    slow = Measured(Latencies({ATTACH: {SERVER: [1.5]}}), {**WRITES, LOOP: [Write(200, 0.5)] * 3}, 256, "no root")
    assert [note.partition(":")[0] for note in volumes.notes_of(slow)[:3]] == ["goal MISSED"] * 3
    assert volumes.notes_of(slow)[-1] == "no fake driver: no root"


def test_table_document_and_picture(tmp_path):
    assert volumes.table_of(MEASURED).row_count == 5
    assert volumes.document_of(MEASURED)["share"] == {LOOP: [1.0, 1.0], FILE: [0.5, 0.5]}
    plots.draw(MEASURED, tmp_path / "volumes.png")
    assert (tmp_path / "volumes.png").read_bytes().startswith(b"\x89PNG")


class Engine:
    """Of a server whose device is a file here."""

    def __init__(self, path, said=None):
        self.path, self.said, self.put_there = path, said, []

    def put(self, _server, path, place):
        self.put_there.append(str(place))

    def execute(self, _server, line):
        line = [word.replace("/dev/vdb", str(self.path)) for word in line[1:]]
        return self.said or subprocess.run(["dd", *line], check=True, capture_output=True, text=True).stderr


def test_what_dd_says_is_read(tmp_path):
    (tmp_path / "disk").touch()
    engine = Engine(tmp_path / "disk")
    target = volumes._Target(engine, "server", 1)
    assert engine.put_there[-1] == "/usr/local/sbin/dockstack-bench-dd"
    for inside in (True, False):
        found = target._write("/dev/vdb" if inside else str(tmp_path / "other"), inside=inside)
        assert found.rate > 0
        assert found.sync > 0
    assert (tmp_path / "disk").stat().st_size == 1 << 20


def test_a_dd_that_does_not_tell_is_shown(tmp_path):
    target = volumes._Target(Engine(tmp_path, said="what?"), "server", 1)
    with pytest.raises(DockstackError, match="how long") as raised:
        target._write("/dev/vdb", inside=True)
    assert raised.value.details == "what?"


@pytest.fixture
def losetup(tmp_path, monkeypatch):
    """A losetup that makes a file the device, and writes down what it was told."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/losetup"
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/told\ntouch {tmp_path}/device; echo {tmp_path}/device\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def test_what_is_compared_with_has_no_name_in_cinders_directory(losetup):
    """It is Cinder's, who may have put links there; and a killed run leaves nothing."""
    pool, victim = losetup / "pool", losetup / "victim"
    pool.mkdir()
    victim.write_text("precious")
    for kind in ("loop", "file"):
        (pool / f".dockstack-bench-{kind}").symlink_to(victim)
    before = sorted(pool.iterdir())
    with volumes._files(pool, 1) as (device, file):
        assert sorted(pool.iterdir()) == before
        assert device == str(losetup / "device")
        assert file.stat().st_size == 1 << 20
        assert len((losetup / "told").read_text().splitlines()) == 2, "detached already: it ends with who has it open"
    assert victim.read_text() == "precious"
    assert sorted(pool.iterdir()) == before


def test_what_cannot_be_taken_back_does_not_hide_why_it_had_to():
    def refuse():
        raise DockstackError("The volume is still in use.", "Look.")

    with pytest.raises(DockstackError, match="dd is not installed") as first, volumes._then(refuse):
        raise DockstackError("dd is not installed.", "Install it.")
    assert "still in use" in first.value.__notes__[0]
    with pytest.raises(DockstackError, match="still in use"), volumes._then(refuse):
        pass
