# SPDX-License-Identifier: Apache-2.0
"""What a probe of a cloud is, and what may come of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Verdict(StrEnum):
    """How a probe ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Failed(Exception):  # noqa: N818 - said of a probe
    """A probe failed: what was seen, what it means for nodes, what to do."""

    def __init__(self, seen: str, means: str, cure: str) -> None:
        """Take the three sentences."""
        super().__init__(seen)
        self.seen, self.means, self.cure = seen, means, cure


class Refused(Failed):
    """The cloud said no, and would say so to a node, wherever that asks from."""


class Skipped(Exception):  # noqa: N818 - said of a probe
    """Nobody can tell from here; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What came of a probe.

    Attributes:
        seen: what was seen, or why nobody looked.
        means: what that means for the cloud's nodes, where it failed.
        cure: what to do then.
    """

    name: str
    title: str
    verdict: Verdict
    seen: str
    means: str = ""
    cure: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"verdict": self.verdict.value}


@dataclass(frozen=True)
class Probe:
    """A question to the cloud.

    Attributes:
        name: a word.
        title: what is asked.
        ask: returns what was seen; raises Failed, which may be Refused, or Skipped.
    """

    name: str
    title: str
    ask: Callable[[], str]

    def outcome(self) -> Outcome:
        """Ask."""
        try:
            return Outcome(self.name, self.title, Verdict.PASSED, self.ask())
        except Failed as failed:
            return Outcome(self.name, self.title, Verdict.FAILED, failed.seen, failed.means, failed.cure)
        except Skipped as skipped:
            return Outcome(self.name, self.title, Verdict.SKIPPED, str(skipped))
