# SPDX-License-Identifier: Apache-2.0
"""Reports of a run: a table, JUnit XML, JSON and an HTML page."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rich.table import Table

from dockstack.verify.tempest.model import Verdict
from dockstack.verify.tempest.selection import class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from dockstack.verify.tempest.model import Outcome

_AREA_PARTS = 3  # "tempest.api.compute"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")
_STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2430}
table{border-collapse:collapse;width:100%;margin:1rem 0}td,th{padding:.3rem .6rem;text-align:left;vertical-align:top;
border-bottom:1px solid #d8dee6}td.n,th.n{text-align:right}pre{overflow:auto;background:#f4f6f8;padding:.7rem;
font-size:12px}.passed{color:#187a3a}.failed{color:#b3201f;font-weight:600}.skipped{color:#7a6a18}"""


def area_of(name: str) -> str:
    """Return the part of Tempest that a test belongs to: "api.compute", "scenario"."""
    parts = class_of(name).split(".")[1:_AREA_PARTS]
    return parts[0] if parts[0] == "scenario" else ".".join(parts)


def count(outcomes: Iterable[Outcome]) -> Counter[Verdict]:
    """Count by verdict."""
    return Counter(outcome.verdict for outcome in outcomes)


def by_area(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Group by area, in the alphabet's order."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[area_of(outcome.name)].append(outcome)
    return dict(sorted(found.items()))


def reasons(outcomes: Iterable[Outcome]) -> dict[str, list[str]]:
    """Group the skipped by their reason, the most frequent one first."""
    found: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.verdict is Verdict.SKIPPED:
            found[outcome.reason or "no reason was given"].append(outcome.name)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """Build the table of areas."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("area", no_wrap=True)
    for heading in ("passed", "failed", "skipped", "test seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for area, found in by_area(outcomes).items():
        counts, seconds = count(found), sum(outcome.seconds for outcome in found)
        numbers = [str(counts[verdict]) for verdict in Verdict]
        table.add_row(area, *numbers, f"{seconds:.0f}", style="red" if counts[Verdict.FAILED] else None)
    return table


def summary_of(outcomes: Iterable[Outcome], seconds: float) -> str:
    """Count in one line."""
    counts = count(outcomes)
    return f"{', '.join(f'{counts[verdict]} {verdict}' for verdict in Verdict)} in {seconds / 60:.1f} minutes"


def write(outcomes: Sequence[Outcome], directory: Path, facts: Mapping[str, str], seconds: float) -> list[Path]:
    """Write ``junit.xml``, ``index.html`` and ``results.json``; return their paths.

    Args:
        outcomes: of every chosen test.
        directory: where to; it is there.
        facts: what was tested and how, for the page's head.
        seconds: how long the run took.
    """
    texts = {
        "index.html": page(outcomes, facts, seconds),
        "junit.xml": junit(outcomes, seconds),
        "results.json": document(outcomes, facts, seconds),
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
    return [directory / name for name in texts]


def junit(outcomes: Iterable[Outcome], seconds: float) -> str:
    """Build the report that CI systems read."""
    found = list(outcomes)
    counts = count(found)
    suite = ET.Element("testsuite", name="tempest", tests=str(len(found)), time=f"{seconds:.3f}", errors="0")
    suite.set("failures", str(counts[Verdict.FAILED]))
    suite.set("skipped", str(counts[Verdict.SKIPPED]))
    for outcome in found:
        place, _, test = outcome.name.rpartition(".")
        case = ET.SubElement(suite, "testcase", classname=place, name=test, time=f"{outcome.seconds:.3f}")
        if outcome.verdict is Verdict.FAILED:
            ET.SubElement(case, "failure", message=_clean(outcome.reason)).text = _clean(outcome.text)
        elif outcome.verdict is Verdict.SKIPPED:
            ET.SubElement(case, "skipped", message=_clean(outcome.reason))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def document(outcomes: Iterable[Outcome], facts: Mapping[str, str], seconds: float) -> str:
    """Build the JSON document."""
    found = list(outcomes)
    counts = count(found)
    tests = {
        outcome.name: {"verdict": outcome.verdict, "seconds": round(outcome.seconds, 2), "reason": outcome.reason}
        for outcome in found
    }
    numbers = {str(verdict): counts[verdict] for verdict in Verdict}
    return json.dumps({**facts, **numbers, "seconds": round(seconds, 1), "tests": tests}, indent=2) + "\n"


def page(outcomes: Sequence[Outcome], facts: Mapping[str, str], seconds: float) -> str:
    """Build the page: numbers, failures with their tracebacks, the skipped by reason, every test."""
    about = "".join(f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in facts.items())
    areas = "".join(_area_row(area, found) for area, found in by_area(outcomes).items())
    failures = "".join(
        f"<h3 class=failed>{_text(outcome.name)}</h3><pre>{_text(outcome.text)}</pre>"
        for outcome in outcomes
        if outcome.verdict is Verdict.FAILED
    )
    skipped = "".join(
        f"<tr><td class=n>{len(names)}</td><td><details><summary>{_text(reason)}</summary>"
        f"{'<br>'.join(map(_text, names))}</details></td></tr>"
        for reason, names in reasons(outcomes).items()
    )
    tests = "".join(
        f"<tr><td>{_text(outcome.name)}</td><td class={outcome.verdict}>{outcome.verdict}</td>"
        f"<td class=n>{outcome.seconds:.1f}</td></tr>"
        for outcome in sorted(outcomes, key=lambda each: each.name)
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Tempest</title><style>{_STYLE}</style>"
        f"<h1>Tempest</h1><p>{_text(summary_of(outcomes, seconds))}</p><table>{about}</table>"
        "<table><tr><th>area</th><th class=n>passed</th><th class=n>failed</th><th class=n>skipped</th></tr>"
        f"{areas}</table><h2>Failed</h2>{failures or '<p>None.</p>'}"
        f"<h2>Skipped, by reason</h2><table>{skipped}</table>"
        f"<h2>All tests</h2><table><tr><th>test</th><th></th><th class=n>seconds</th></tr>{tests}</table></html>\n"
    )


def _area_row(area: str, found: Iterable[Outcome]) -> str:
    counts = count(found)
    cells = "".join(f"<td class='n {verdict}'>{counts[verdict]}</td>" for verdict in Verdict)
    return f"<tr><td>{_text(area)}</td>{cells}</tr>"


def _text(value: str) -> str:
    return html.escape(value)


def _clean(text: str) -> str:
    """Leave out what XML cannot hold."""
    return _NOT_XML.sub("", text)
