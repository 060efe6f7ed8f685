# SPDX-License-Identifier: Apache-2.0
"""Run chosen tests and report each one when it begins and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import IO, TYPE_CHECKING, Any

from dockstack.verify.tempest.model import Outcome, Verdict
from dockstack.verify.tempest.selection import SIGNED, class_of, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dockstack.verify.tempest.workspace import Workspace

GRACE = 20.0  # seconds that the runner's processes get to end, after an interrupt
STATES = {
    "success": Verdict.PASSED,
    "uxsuccess": Verdict.FAILED,
    "xfail": Verdict.PASSED,
    "skip": Verdict.SKIPPED,
    "fail": Verdict.FAILED,
}
_WORKER = "worker-"


@dataclass(frozen=True)
class Began:
    """A test began."""

    name: str


def run(
    workspace: Workspace, rounds: Sequence[Sequence[str]], concurrency: int, log: Path
) -> Iterator[Began | Outcome]:
    """Run tests, one round after the other.

    What is yielded may include the set-up of a class, which has no test of its own.

    Args:
        workspace: with Tempest in it, configured.
        rounds: the tests' ids, with tags.
        concurrency: how many processes run them.
        log: receives what the runner says besides.
    """
    with log.open("w") as said:
        for tests in rounds:
            signed = SIGNED.issuperset(map(name_of, tests))
            yield from _run(workspace.of_signed_images if signed else workspace, tests, concurrency, said)


def _run(workspace: Workspace, tests: Sequence[str], concurrency: int, said: IO[str]) -> Iterator[Began | Outcome]:
    listed = workspace.directory / "selected"
    listed.write_text("\n".join(tests) + "\n")
    words = ["run", "--subunit", "--concurrency", str(concurrency), "--load-list", str(listed)]
    translator = str(resources.files("dockstack.verify.tempest") / "events.py")
    with _process(workspace, workspace.command(*words), said) as runner:
        translate = subprocess.Popen(
            [str(workspace.python), translator],
            stdin=runner.stdout,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,  # an interrupt of ours must not end it before the runner
        )
        if runner.stdout is not None:
            runner.stdout.close()  # the translator's now: it must see the end
        if translate.stdout is not None:
            yield from follow(translate.stdout)
        translate.wait()


def follow(lines: Iterable[str]) -> Iterator[Began | Outcome]:
    """Read the lines of ``events.py``."""
    since: dict[str, float] = {}
    for line in lines:
        event = json.loads(line)
        name, at = name_of(event["id"]), event["at"] or 0.0
        if event["state"] == "inprogress":
            since[name] = at
            yield Began(name)
        elif event["state"] in STATES:
            yield _outcome(event, name, at - since.pop(name, at))


def complete(
    tests: Sequence[str], outcomes: Iterable[Outcome], excluded: Mapping[str, str], *, interrupted: bool = False
) -> list[Outcome]:
    """Give every chosen test an outcome: those of a class whose set-up failed, or skipped, were never begun.

    Args:
        tests: the ids of what was run.
        outcomes: of tests, and of the set-up of classes.
        excluded: name -> why it was not run at all.
        interrupted: what has no outcome was not reached, which is no failure of its own.
    """
    names = [name_of(test) for test in tests]
    by_name = {outcome.name: outcome for outcome in outcomes}
    classes = {class_of(name): by_name[name] for name in by_name if name not in set(names)}
    extra = [outcome for name, outcome in by_name.items() if name.startswith("tearDownClass")]
    unknown = Verdict.SKIPPED if interrupted else Verdict.FAILED
    words = "The run was interrupted." if interrupted else "The runner ended without a word about this test."
    found = []
    for name in names:
        if name in by_name:
            found.append(by_name[name])
        elif class_of(name) in classes:
            of_class = classes[class_of(name)]
            found.append(Outcome(name, of_class.verdict, 0.0, of_class.text, of_class.worker))
        else:
            found.append(Outcome(name, unknown, 0.0, words))
    failed_ends = [outcome for outcome in extra if outcome.verdict is Verdict.FAILED]
    left_out = [Outcome(name, Verdict.SKIPPED, 0.0, why) for name, why in excluded.items()]
    return found + failed_ends + left_out


def _outcome(event: Mapping[str, Any], name: str, seconds: float) -> Outcome:
    worker = next((int(tag.removeprefix(_WORKER)) for tag in event["tags"] if tag.startswith(_WORKER)), 0)
    return Outcome(name, STATES[event["state"]], max(seconds, 0.0), event["text"], worker)


@contextmanager
def _process(workspace: Workspace, command: list[str], said: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the runner in a session of its own, so that all its processes are ended if the caller leaves early."""
    process = subprocess.Popen(
        command,
        cwd=workspace.directory,
        env=workspace.variables(),
        stdout=subprocess.PIPE,
        stderr=said,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process)
        process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
