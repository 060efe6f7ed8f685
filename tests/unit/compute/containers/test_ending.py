# SPDX-License-Identifier: Apache-2.0
"""How a server ended is said in words that help."""

from __future__ import annotations

from typing import Any

import pytest

from dockstack.compute.containers import ending
from dockstack.compute.engine import Container
from dockstack.compute.model import PowerState

pytestmark = pytest.mark.unit

START = "2026-11-27T17:00:00.900000001Z"


def ended(code: int = 0, after: str = "17:00:01.4Z", **more: Any) -> Container:
    said = {"command": ("/bin/sh", "-c", "echo done"), "started_at": START, "finished_at": f"2026-11-27T{after}"}
    return Container("id", "nova-x", PowerState.SHUTDOWN, exit_code=code, **{**said, **more})


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (ended(), ["(/bin/sh -c 'echo done')", "after 0.5 s", "status 0.", "A server runs as long as that does"]),
        (ended(3), ["status 3.", "See the console log."]),
        (ended(after="17:00:00.1Z"), ["after 0.0 s"]),  # before the engine had noted its start
        (ended(127), ["status 127.", "found no program"]),
        (ended(143), ["status 143 (SIGTERM).", "docker_command"]),
        (ended(137, oom_killed=True), ["137 (out of memory)", "choose a larger one"]),
        (ended(command=("/bin/bash",)), ["a shell without a terminal", "docker_tty=true"]),
        (ended(command=("/bin/bash",), tty=True), ["A server runs as long as that does"]),
        (
            ended(
                command=("/x" * 99, "\x1b[2J\n"),
            ),
            ["/x/...)"],
        ),
        (ended(command=("/x\x1b", "é")), ["x1b"]),
    ],
)
def test_what_ended_and_what_to_do(container, words) -> None:
    said = ending.describe(container)
    assert ending.is_early(container)
    assert all(word in said for word in words), said
    assert said.isascii()
    assert said.isprintable()
    assert len(f"Failed to power on instance: {said}") <= 255, "Nova cuts a fault there"


def test_the_longest_sentence_fits_a_fault() -> None:
    for code in range(256):
        for command in (("/bin/sh",), ("/" + "é" * 99,)):
            said = ending.describe(ended(code, "17:00:10.8Z", command=command))
            assert len(f"Failed to power on instance: {said}") <= 255


MAY_REBOOT = {"host_config": {"CapAdd": ["SYS_BOOT"]}}


@pytest.mark.parametrize(
    ("container", "reboot", "word"),
    [
        (ended(129, **MAY_REBOOT), True, "rebooted"),
        (ended(130, **MAY_REBOOT), False, "shut down"),
        (ended(129), False, "status 129"),
        (ended(1, **MAY_REBOOT), False, "status 1"),
    ],
)
def test_reboot_2_is_told_from_other_ends(container, reboot, word) -> None:
    assert ending.is_reboot(container) == reboot
    assert word in ending.describe(container)
    assert ending.is_early(container) == ("status" in word)


def test_who_reboots_again_and_again_rests_between() -> None:
    assert ending.rest(ended(129, "17:00:01.9Z"), 0) == pytest.approx(4.0)
    assert ending.rest(ended(129, "17:09:00.0Z"), 3) == 0.0


@pytest.mark.parametrize("code", [137, 255])
def test_who_was_killed_did_not_end_by_itself(code) -> None:
    assert not ending.is_early(ended(code))
    assert "status" in ending.describe(ended(code))


def test_who_ran_for_long_came_up() -> None:
    late = ended(1, "17:00:11Z")
    assert not ending.is_early(late)
    assert ending.describe(late) == "The first process (/bin/sh -c 'echo done') ended after 10.1 s with status 1."


@pytest.mark.parametrize(
    "more",
    [
        {"pid": 7},
        {"command": ()},
        {"started_at": "0001-01-01T00:00:00Z"},
        {"started_at": ""},
        {"finished_at": "?"},
        {"finished_at": "0001-01-01T00:00:00Z"},
    ],
)
def test_who_runs_or_never_ran_has_not_ended(more) -> None:
    assert not ending.is_early(ended(**more))
    assert ending.describe(ended(**more)) == ""
