# SPDX-License-Identifier: Apache-2.0
"""A recorded run as plain text: the critical path, the services' starts, all stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.run.timeline.recording import critical_path
from dockstack.display import printable

if TYPE_CHECKING:
    from dockstack.deploy.run.timeline.recording import Bar, Link, Recording


def table_of(recording: Recording) -> str:
    """Return the text; times are seconds since the run began."""
    bars = recording.bars()
    by_key = {bar.key: bar for bar in bars}
    path = critical_path(bars)
    lines = [summary(recording), "", "Critical path: to shorten one of these shortens the run"]
    lines += [_heading("BECAUSE"), *(_line(link.bar, link.reason) for link in path)]
    services = service_starts(bars)
    if services:
        lines += ["", "Services, from their start until they answered"]
        lines += [_heading(""), *(_row(*times, name) for name, times in services)]
    lines += ["", "All stages", _heading("WAITED FOR")]
    lines += [_line(bar, ", ".join(by_key[key].title for key in last_needed(bar, by_key))) for bar in bars]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def summary(recording: Recording) -> str:
    """Return the run in one line."""
    bars = recording.bars()
    began = f", after {recording.before:.1f} s of the command line's own" if recording.before else ""
    seconds = max([recording.seconds, *(bar.ended for bar in bars)])
    end = "" if recording.ok else "; the run did not succeed"
    return f"{len(bars)} stages in {seconds:.1f} s{began}{end}."


def path_seconds(path: tuple[Link, ...]) -> float:
    """Return how much of the run's time the stages of its critical path took."""
    return sum(link.bar.seconds for link in path)


def service_starts(bars: tuple[Bar, ...]) -> list[tuple[str, tuple[float, float]]]:
    """Return each service that was started, with when its start began and when it answered, in that order."""
    starts = [(start.name, bar.began + start.at, start.seconds) for bar in bars for start in bar.starts]
    return [(name, (at, at + seconds)) for name, at, seconds in sorted(starts, key=lambda start: start[1])]


def last_needed(bar: Bar, by_key: dict[str, Bar]) -> tuple[str, ...]:
    """Return the key of the stage whose end a stage had to wait for longest; () if it needed none."""
    known = [by_key[key] for key in bar.after if key in by_key]
    return (max(known, key=lambda one: one.ended).key,) if known else ()


def _heading(last: str) -> str:
    return f"{'FROM':>8} {'TO':>8} {'SECONDS':>8}  {'':44} {last}"


def _line(bar: Bar, why: str) -> str:
    return _row(bar.began, bar.ended, f"{bar.title:44} {why}")


def _row(began: float, ended: float, what: str) -> str:
    return f"{began:8.1f} {ended:8.1f} {ended - began:8.1f}  {printable(what)}"
