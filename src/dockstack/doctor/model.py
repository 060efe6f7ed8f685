# SPDX-License-Identifier: Apache-2.0
"""What a check is, what it may find, and what came of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dockstack.display import printable
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Subject = TypeVar("Subject")


class Need(StrEnum):
    """What a check cannot do without; the value is said where it is missing."""

    OURS = "dockstack runs no services here"
    CONTROLLER = "no cloud of `dockstack up` is here"
    HERE = "only the machine itself can tell"
    CLOUD = "no administrator's access to a cloud that answers (--os-cloud)"
    DOCUMENT = "no cloud document (`dockstack cloud import`)"


@dataclass(frozen=True)
class Mend:
    """What may be done about a finding: safe, and done twice the same as once.

    Attributes:
        what: it does, named before it is done.
        act: does it; raises a DockstackError where it cannot.
    """

    what: str
    act: Callable[[], object]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        brief: what was found.
        cure: what to do about it.
        note: a person should know it, and nothing is wrong.
        mend: what `--mend` does about it.
    """

    brief: str
    cure: str
    note: bool = False
    mend: Mend | None = None


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One question to a machine, or to a cloud.

    Attributes:
        name: a word.
        title: what is true where nothing is found.
        means: what it means where something is.
        look: yields what is found; it only looks.
        needs: what it cannot do without.
        mends: what `--mend` may do about it, for the documentation.
    """

    name: str
    title: str
    means: str
    look: Callable[[Subject], Iterable[Finding]]
    needs: frozenset[Need] = frozenset()
    mends: str = ""


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        skipped: why nobody looked; "" if somebody did.
    """

    check: str
    title: str
    means: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def good(self) -> bool:
        """Nothing is wrong, as far as somebody looked."""
        return all(finding.note for finding in self.findings)

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        told = [
            {"brief": each.brief, "cure": each.cure, "note": each.note, "mend": each.mend.what if each.mend else ""}
            for each in self.findings
        ]
        state = "not looked at" if self.skipped else "good" if self.good else "found"
        return {"check": self.check, "title": self.title, "state": state, "why": self.skipped, "findings": told} | (
            {"means": self.means} if self.findings else {}
        )


@dataclass(frozen=True)
class Examination:
    """What came of one machine, or of the cloud.

    Attributes:
        name: whose.
        facts: what it is like, as a report has it; no secret is among them.
    """

    name: str
    results: tuple[Result, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return all(result.good for result in self.results)

    def mends(self) -> list[Mend]:
        """Return all that may be done."""
        return [finding.mend for result in self.results for finding in result.findings if finding.mend]

    def count(self) -> tuple[int, int, int]:
        """Return how many checks found nothing wrong, how many found something, and how many were not made."""
        skipped = sum(1 for result in self.results if result.skipped)
        found = sum(1 for result in self.results if not result.good)
        return len(self.results) - skipped - found, found, skipped


def examine(
    checks: Iterable[Check[Subject]], subject: Subject, have: frozenset[Need], only: frozenset[str] = frozenset()
) -> tuple[Result, ...]:
    """Make all checks, or only these; one that breaks stops only itself.

    Args:
        checks: in their order.
        subject: a machine or a cloud.
        have: what there is of what checks need.
        only: names; none means all.
    """
    return tuple(_one(check, subject, have) for check in checks if not only or check.name in only)


def _one(check: Check[Subject], subject: Subject, have: frozenset[Need]) -> Result:
    missing = next((need for need in Need if need in check.needs - have), None)
    if missing:
        return Result(check.name, check.title, check.means, skipped=missing.value)
    try:
        found = tuple(check.look(subject))
    except DockstackError as error:
        found = (Finding(error.brief, error.resolution),)
    except Exception as error:  # noqa: BLE001 - what machines say is theirs; the other checks go on
        cure = "This is a fault in dockstack, or the machine's answer is none; a report (--report) helps."
        found = (Finding(f"The check broke: {type(error).__name__}: {error}", cure),)
    return Result(check.name, check.title, check.means, tuple(map(_shown, found)))


def _shown(finding: Finding) -> Finding:
    """Return a finding whose words print: it may quote names that strangers chose."""
    return Finding(printable(finding.brief), printable(finding.cure), finding.note, finding.mend)
