# SPDX-License-Identifier: Apache-2.0
from dockstack.deploy.configuration.ini import merge_ini, render_ini


def test_sections_and_options_keep_their_order():
    text = render_ini({"b": {"y": "1", "x": "2"}, "a": {"empty": ""}})
    assert text.split("\n\n", 1)[1] == "[b]\ny = 1\nx = 2\n\n[a]\nempty =\n"


def test_later_parts_win_option_by_option():
    assert merge_ini({"a": {"x": "1", "y": "1"}}, {"a": {"y": "2"}, "b": {"z": "3"}}) == {
        "a": {"x": "1", "y": "2"},
        "b": {"z": "3"},
    }


def test_merging_leaves_the_parts_alone():
    first = {"a": {"x": "1"}}
    merge_ini(first, {"a": {"x": "2"}})
    assert first == {"a": {"x": "1"}}
