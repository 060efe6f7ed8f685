# SPDX-License-Identifier: Apache-2.0
"""Show results: a table for people, one JSON document for machines."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dockstack.terminal import styled
from dockstack.verify.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.verify.model import CloudFacts, Result

COLOURS = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.SKIPPED: "yellow"}


def table_of(results: Sequence[Result]) -> Table:
    """Build the table at the end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("exercise", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for result in results:
        colour = COLOURS[result.verdict]
        table.add_row(
            result.name,
            styled((result.verdict.value, colour)),
            f"{result.seconds:.1f}" if result.seconds else "",
            result.reason,
        )
    return table


def summary_of(results: Sequence[Result]) -> str:
    """Count in one line."""
    counts = Counter(result.verdict for result in results)
    seconds = sum(result.seconds for result in results)
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict]
    return f"{', '.join(parts)} in {seconds:.0f} s"


def evidence_of(result: Result) -> str:
    """Lay out what is known about a failure."""
    lines = [f"{result.name}: {result.reason}"]
    if result.resolution:
        lines.append(f"what to do: {result.resolution}")
    for item in result.evidence:
        lines += [f"  {line}" for line in item.splitlines()]
    return "\n".join(lines)


def json_of(cloud: str, facts: CloudFacts, results: Sequence[Result]) -> str:
    """Build the document that ``--json`` prints."""
    document: dict[str, Any] = {
        "cloud": cloud,
        "hypervisors": list(facts.hypervisors),
        "image": facts.image_name,
        "flavor": facts.flavor_name,
        "network": facts.network_name,
        "missing": {capability.value: reason for capability, reason in facts.missing.items()},
        "passed": all(result.verdict is not Verdict.FAILED for result in results),
        "results": [result.as_dict() for result in results],
    }
    return json.dumps(document, indent=2)
