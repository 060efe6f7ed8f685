# SPDX-License-Identifier: Apache-2.0
"""What came of a host, in words and as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dockstack.cli.node_run import failed
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, say_lines, styled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.administration.enrolment import Enrolled
    from dockstack.deploy.join.adding import Added
    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.join.survey import Survey

    Outcome = NodePlan | DockstackError


def fits(outcome: Outcome) -> bool:
    """Tell whether a host would do."""
    return not isinstance(outcome, DockstackError) and outcome.fits


def fitting(looked: Mapping[str, Survey | DockstackError], found: Mapping[str, Outcome]) -> dict[str, Survey]:
    """Return what looking at hosts told of those that would do.

    Args:
        looked: what came of looking at each.
        found: what would change on each, or why it would not do.
    """
    return {name: one for name, one in looked.items() if not isinstance(one, DockstackError) and fits(found[name])}


def engine_of(outcome: Outcome) -> str:
    """Return which engine of ours a host would have, and why; "" if it has the machine's."""
    return "" if isinstance(outcome, DockstackError) else outcome.engine


def error_plain(error: DockstackError) -> dict[str, Any]:
    """Return an error as plain data."""
    return {"error": error.brief, "cure": error.resolution, "details": error.details}


def plain(outcome: Outcome) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"fits": False, **error_plain(outcome)}
    return {"fits": outcome.fits, "changes": outcome.changes, **asdict(outcome)}


def show_plan(name: str, outcome: Outcome, *, whole: bool) -> None:
    """Print what came of a host; of one that does not fit, only why."""
    screen = Screen()
    if isinstance(outcome, DockstackError):
        screen.print(styled(name, ": ", ("cannot be looked at", "red")))
        say_lines(f"  {outcome.brief}\n  {outcome.details}".rstrip())
        say(f"  what to do: {outcome.resolution}")
        return
    said = f"{outcome.changes} changes" if outcome.fits else "does not fit"
    screen.print(styled(name, f" ({outcome.hostname}): ", (said, "green" if outcome.fits else "red")))
    for problem in outcome.problems:
        say(f"  {'warning: ' if problem.warning else '- '}{problem.brief}")
        say(f"    {problem.cure}")
    if outcome.fits:
        _show_changes(outcome, whole=whole)


def _show_changes(outcome: NodePlan, *, whole: bool) -> None:
    if outcome.engine:
        say(f"  engine {outcome.engine}")
    if outcome.packages:
        say(f"  packages: {' '.join(outcome.packages)}")
    for text in outcome.environments:
        say(f"  environment {text}")
    for change in outcome.files:
        say(f"  file {change.path}: {change.what}")
        if change.diff and (whole or not change.new):
            say_lines("\n".join(f"    {line}" for line in change.diff.splitlines()))
    for service in outcome.services:
        say(f"  service {service.name}: {service.what}")


def ended(outcome: Added | DockstackError) -> tuple[str | tuple[str, str], ...]:
    """Return what is said of a host that is through."""
    if isinstance(outcome, DockstackError):
        return failed(outcome)
    what = "nothing had to be changed" if not outcome.changes and not outcome.sent else f"{outcome.changes} changes"
    return ("joined", "green"), f" as {outcome.hostname}: {what}, in {outcome.seconds:.1f} s{_let_in(outcome.enrolled)}"


def _let_in(enrolled: Enrolled | None) -> str:
    if enrolled is None:
        return ""
    if not enrolled.enabled:
        return f"; it stays disabled: {enrolled.reason}"
    if enrolled.proof:
        return f"; a test server was active after {enrolled.proof:.1f} s; enabled"
    return "; enabled"


def added_plain(outcome: Added | DockstackError) -> dict[str, Any]:
    """Return what came of a host that fits, as plain data."""
    if isinstance(outcome, DockstackError):
        return {"joined": False, **plain(outcome), "fits": True}
    return {"joined": True, **asdict(outcome)}
