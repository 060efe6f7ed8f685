# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

import pytest

from dockstack.bench import plots, registry
from dockstack.bench.registry import Sample, Transfers
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

MEASURED = Transfers(
    500, (Sample(5.0, 1.0, 4.0, 2.0), Sample(4.0, 1.0, 4.0, 2.0), Sample(9.0, 1.0, 9.0, 2.0)), 70.4, 20.0, {"cores": 2}
)


def test_rates_are_of_medians_and_shares_of_the_other_registrys():
    assert (MEASURED.rate("push"), MEASURED.rate("raw_push"), MEASURED.rate("pull")) == (100, 125, 500)
    assert (MEASURED.share("push"), MEASURED.share("pull")) == (0.8, 2.0)


def test_notes_say_which_goals_are_met():
    push, pull, memory = registry.notes_of(MEASURED)[1:]
    assert push.startswith("goal MISSED: push at 0.80 x")
    assert pull.startswith("goal met: pull at 2.00 x")
    assert memory.startswith("goal MISSED: the registry takes 70 MiB more")


def test_table_document_and_picture(tmp_path):
    assert registry.table_of(MEASURED).row_count == 2
    assert registry.document_of(MEASURED)["share"] == {"push": 0.8, "pull": 2.0}
    plots.draw(MEASURED, tmp_path / "registry.png")
    assert (tmp_path / "registry.png").read_bytes().startswith(b"\x89PNG")


def test_a_blobs_digest_is_that_of_what_is_sent():
    blob = registry.Blob(b"x" * (1 << 20), 2)
    sent = b"".join(blob.chunks())
    assert len(sent) == 2 << 20
    assert blob.digest == f"sha256:{hashlib.sha256(sent).hexdigest()}"


def test_without_the_other_registry_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockstackError, match="not installed"), registry.installed(tmp_path):
        pass
    assert not any(tmp_path.iterdir())
