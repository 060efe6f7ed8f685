# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import tarfile

import click
import pytest

from dockstack.bench import engine_baseline, images, plots
from dockstack.bench.images import Sample, Throughputs
from dockstack.cli.bench import numbers

pytestmark = pytest.mark.unit

SAMPLES = (
    Sample(32, 0.9, 0.5, 50.0, 2.0, 1.0, 55.0),
    Sample(32, 1.1, 0.5, 50.0, 2.0, 1.0, 55.0),
    Sample(32, 1.0, 0.7, 50.0, 9.0, 1.0, 55.0),
    Sample(256, 6.0, 3.0, 270.0, 8.0, 6.0, 275.0),
)


def test_each_size_has_its_medians_and_both_ways():
    load, snapshot, *_ = Throughputs(SAMPLES).ways()
    assert (load.ours, load.raw, load.ratio, load.rate) == (1.0, 0.5, 2.0, 50.0)
    assert (snapshot.ours, snapshot.raw_rate) == (2.0, 55.0)
    assert [(way.name, way.size) for way in Throughputs(SAMPLES).ways()] == [
        ("load", 32), ("snapshot", 32), ("load", 256), ("snapshot", 256),
    ]  # fmt: skip


def test_a_load_that_noise_made_negative_is_no_division_by_zero():
    (load, _) = Throughputs((Sample(1, -0.1, 0.0, 5.0, 1.0, 1.0, 5.0),)).ways()
    assert load.rate == 500.0
    assert load.ratio == -10.0


def test_table_document_notes_and_picture(tmp_path):
    measured = Throughputs(SAMPLES, {"cores": 2})
    assert images.table_of(measured).row_count == 4
    assert images.document_of(measured)["medians"][0]["load"] == 1.0
    assert images.notes_of(measured)
    plots.draw(measured, tmp_path / "images.png")
    assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_container_is_given_is_random_and_of_its_size():
    first, second = engine_baseline._tar_of_random(1), engine_baseline._tar_of_random(1)
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert [(entry.name, entry.size) for entry in archive] == [("bench", 1 << 20)]
    assert first != second


def test_sizes_are_a_list_of_numbers():
    assert numbers("256, 32,32", "--sizes") == [32, 256]
    with pytest.raises(click.BadParameter, match="no list of numbers"):
        numbers("32,big", "--sizes")
