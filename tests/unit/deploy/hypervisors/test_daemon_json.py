# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockstack.deploy.hypervisors.daemon_json import Wanted, before, merge, restore
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

WANTED = Wanted("dockstack", "/opt/dockstack/runtime/dockstack-runtime")
PATH = "/etc/docker/daemon.json"


def test_a_file_of_our_own():
    assert json.loads(merge(None, WANTED, PATH)) == {
        "runtimes": {"dockstack": {"path": "/opt/dockstack/runtime/dockstack-runtime"}},
        "live-restore": True,
    }


def test_keys_of_others_are_kept():
    text = '{"dns": ["192.0.2.1"], "runtimes": {"nvidia": {"path": "n"}}, "live-restore": false}'
    merged = json.loads(merge(text, WANTED, PATH))
    assert merged["dns"] == ["192.0.2.1"]
    assert merged["runtimes"]["nvidia"] == {"path": "n"}
    assert merged["live-restore"] is True


def test_a_merged_file_is_left_byte_for_byte():
    merged = merge('{"dns": []}', WANTED, PATH)
    assert merge(merged, WANTED, PATH) == merged
    odd = json.dumps(json.loads(merged))
    assert merge(odd, WANTED, PATH) == odd


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1,}', '{"runtimes": [1]}', "nonsense"])
def test_a_damaged_file_is_refused_and_not_overwritten(text):
    with pytest.raises(DockstackError, match="no valid JSON"):
        merge(text, WANTED, PATH)


VALUES = st.dictionaries(
    st.sampled_from(["dns", "live-restore", "data-root", "debug", "runtimes"]), st.booleans() | st.text(max_size=3)
)


@settings(deadline=None)
@given(VALUES, st.sampled_from([None, "/data"]))
def test_restore_gives_back_what_was_there(document, data_root):
    document.pop("runtimes", None)
    document["runtimes"] = {"nvidia": {"path": "n"}}
    wanted = Wanted("dockstack", "/x", data_root)
    text = json.dumps(document)
    kept = before(text, wanted, PATH)
    restored = restore(merge(text, wanted, PATH), kept, wanted, PATH)
    assert json.loads(restored) == document


def test_restore_keeps_what_was_added_meanwhile():
    kept = before(None, WANTED, PATH)
    merged = json.loads(merge(None, WANTED, PATH)) | {"dns": ["192.0.2.9"]}
    assert json.loads(restore(json.dumps(merged), kept, WANTED, PATH)) == {"dns": ["192.0.2.9"]}


def test_a_file_that_was_ours_alone_goes():
    assert restore(merge(None, WANTED, PATH), before(None, WANTED, PATH), WANTED, PATH) is None


def test_live_restore_is_left_to_a_flag():
    wanted = Wanted("dockstack", "/x", live_restore=False)
    assert json.loads(merge(None, wanted, PATH)) == {"runtimes": {"dockstack": {"path": "/x"}}}
