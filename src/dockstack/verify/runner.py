# SPDX-License-Identifier: Apache-2.0
"""Run exercises one after another; each removes what it made, also after a failure."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors

from dockstack.errors import DockstackError
from dockstack.verify.context import Context
from dockstack.verify.diagnosis import diagnose
from dockstack.verify.model import Result, Timeouts, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dockstack.verify.context import Exercise
    from dockstack.verify.model import CloudFacts

# What a cloud that breaks a promise may raise; anything else is a fault of ours and ends the run with a traceback.
CLOUD_ERRORS = (DockstackError, sdk_errors.SDKException, auth_errors.ClientException, OSError)


def run_all(
    exercises: Iterable[Exercise],
    connection: Any,
    facts: CloudFacts,
    timeouts: Timeouts,
    say: Callable[[str, str], None],
) -> Iterator[Result]:
    """Yield each exercise's result when it has ended; ``say`` is called with (exercise, progress)."""
    for exercise in exercises:
        yield run_one(exercise, connection, facts, timeouts, partial(say, exercise.name))


def run_one(
    exercise: Exercise, connection: Any, facts: CloudFacts, timeouts: Timeouts, say: Callable[[str], None]
) -> Result:
    """Run one exercise, diagnose a failure while its servers are still there, and clean up."""
    if reason := facts.why_not(exercise.needs):
        return Result(exercise.name, exercise.title, Verdict.SKIPPED, 0.0, reason)
    started = time.monotonic()
    ctx = Context(connection, facts, exercise.name, say, timeouts)
    failure: Exception | None = None
    evidence: tuple[str, ...] = ()
    try:
        with ExitStack() as ensure:
            ensure.callback(ctx.stack.close)
            try:
                exercise.run(ctx)
            except CLOUD_ERRORS as error:
                failure = error
                say("failed; asking the cloud what it knows")
                evidence = diagnose(ctx)
            say("cleaning up")
    except CLOUD_ERRORS as error:
        if failure is None:
            failure, evidence = error, ("this happened while cleaning up",)
        else:
            evidence = (*evidence, f"cleaning up failed as well: {error}")
    return conclude(exercise, time.monotonic() - started, failure, evidence)


def conclude(exercise: Exercise, seconds: float, failure: Exception | None, evidence: tuple[str, ...]) -> Result:
    """Turn what happened into a result."""
    if failure is None:
        return Result(exercise.name, exercise.title, Verdict.PASSED, seconds)
    if isinstance(failure, DockstackError):
        details = (failure.details,) if failure.details else ()
        return Result(
            exercise.name, exercise.title, Verdict.FAILED, seconds, failure.brief, failure.resolution,
            (*details, *evidence),
        )  # fmt: skip
    reason = f"{type(failure).__name__}: {failure}"
    return Result(exercise.name, exercise.title, Verdict.FAILED, seconds, reason, "", evidence)
