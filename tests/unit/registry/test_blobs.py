# SPDX-License-Identifier: Apache-2.0
"""A blob that was pushed again is whole and new, whatever lay in its place."""

from __future__ import annotations

import os

import pytest

from dockstack.oci.documents import Digest
from dockstack.registry.blobs import BlobStore

pytestmark = pytest.mark.unit

DIGEST = Digest("sha256", "0a" * 32)


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path)


def kept(store, content, name="upload"):
    pushed = store.uploads / name
    pushed.write_bytes(content)
    os.utime(pushed, (1, 1))
    store.keep(pushed, DIGEST)
    return pushed


def test_what_suffered_on_the_disk_is_healed(store):
    kept(store, b"go", "first").unlink()
    kept(store, b"good")
    assert store.path(DIGEST).read_bytes() == b"good"


def test_it_is_new_also_if_its_upload_is_old(store):
    kept(store, b"good")
    assert store.path(DIGEST).stat().st_mtime > 1


@pytest.mark.parametrize("died", [False, True], ids=["again", "after-a-death"])
def test_kept_twice_it_has_its_two_names_and_no_more(store, died):
    pushed = kept(store, b"good")
    if died:
        os.link(pushed, store.uploads / f"{pushed.name}.kept")
    store.keep(pushed, DIGEST)
    assert [each.name for each in store.uploads.iterdir()] == [pushed.name]
    assert store.path(DIGEST).samefile(pushed)
