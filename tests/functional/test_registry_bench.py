# SPDX-License-Identifier: Apache-2.0
"""``bench registry``: what it measures, with small blobs, at a registry beside a real Glance."""

from __future__ import annotations

import pytest
from registry_user import User, needs

from dockstack.bench import registry as bench

pytestmark = pytest.mark.functional


@needs("docker-registry")
def test_a_blob_goes_both_ways_at_both_registries_and_nothing_is_left(cloud, name, tmp_path):
    alice = User(cloud, cloud.alice)
    ours = bench.Registry(cloud.url, name, cloud.pid("registry"), token=lambda: f"Bearer {alice.token(name)}")
    with bench.installed(tmp_path) as other:
        measured = bench.compare(ours, other, 3, 2, lambda _: None)
        assert any(tmp_path.iterdir())
    assert not any(tmp_path.iterdir())
    assert len(measured.samples) == 2
    assert all(seconds > 0 for sample in measured.samples for seconds in vars(sample).values())
    blob = bench.Blob(bytes(1 << 20), 3)
    assert len(list(blob.chunks())) == len(set(blob.chunks())) == 3
    assert alice.ask("HEAD", f"{name}/blobs/{blob.digest}").status_code == 404
