# SPDX-License-Identifier: Apache-2.0
"""Say what happens, and what a run came to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dockstack.chaos.model import Category

if TYPE_CHECKING:
    from pathlib import Path

    from dockstack.chaos.model import Outcome, Wishes


def line_of(note: dict[str, Any]) -> str:
    """Return one line of the journal as a person reads it."""
    at = f"+{note['at']:7.1f} s "
    if note["what"] == "kill":
        names = note.get("processes", {}).values()
        return f"{at} kill {note['victim']}: {note['result']} {note.get('why') or ', '.join(sorted(set(names)))}"
    if note["what"] == "act":
        took = f" ({note['took']} s)" if "took" in note else ""
        why = f": {note['why']}" if note.get("why") else ""
        task = f", task {note['task']}" if note.get("task") else ""
        return f"{at} server {note['slot']} {note['action']}: {note['result']}{task}{took}{why}"
    if note["what"] == "not yet":
        return f"{at} not yet: {len(note['findings'])}, such as {_tell(note['findings'][0])}"
    return f"{at} {note['what']}: {note.get('why', '')}"


def _tell(finding: dict[str, str]) -> str:
    return f"{finding['invariant']}, {finding['subject']}: {finding['details'].partition(chr(10))[0]}"


def summary_of(outcome: Outcome, journal: Path) -> str:
    """Return the end of a run in a few lines."""
    kills, actions = sum(outcome.kills.values()), sum(outcome.actions.values())
    kinds = ", ".join(f"{count} {victim}" for victim, count in sorted(outcome.kills.items()))
    counts = ", ".join(f"{outcome.count(category)} {category.value}" for category in Category)
    lines = [
        f"{kills} kills ({kinds}); {outcome.missed} found nothing to kill",
        f"{actions} actions on {outcome.servers} servers, {outcome.refused} refused",
        f"calm after {outcome.calm_seconds:g} s; {outcome.lines} lines in the servers' logs at the end",
        f"{counts}; {outcome.recovered} recovered from ERROR, {outcome.unbuilt} never built and said so",
    ]
    for finding in outcome.findings:
        lines.append(f"{finding.category.value.upper()} {finding.invariant}: {finding.subject}")
        lines += [f"    {line}" for line in finding.details.splitlines()]
    lines.append(f"journal: {journal}")
    return "\n".join(lines)


def json_of(wishes: Wishes, outcome: Outcome, journal: Path) -> str:
    """Return the document that ``--json`` prints."""
    story = {name: getattr(wishes, name) for name in ("seed", "minutes", "kills", "servers", "hosts")}
    document = {"story": story, "passed": not outcome.findings, "journal": str(journal), **outcome.as_dict()}
    return json.dumps(document, indent=2)
