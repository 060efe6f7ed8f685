# SPDX-License-Identifier: Apache-2.0
"""How a file would change, told without its secrets; pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.deploy.node.secrets import SHORTEST_REDACTED, URL_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.configuration.compute_node import NodeFile
    from dockstack.deploy.join.look import PresentFile

HIDDEN = "********"
# What was there before may hold secrets that nobody here knows; their options' names give them away.
_SECRET_OPTION = re.compile(r"^(\s*(?:\w*password|\w*secret|transport_url|connection)\s*=\s*)\S.*$", re.MULTILINE)


@dataclass(frozen=True)
class FileChange:
    """A file that would be written.

    Attributes:
        path: where.
        new: whether nothing is there yet.
        diff: unified, without secrets; empty if only owner, mode or a secret would change.
        what: in words.
    """

    path: str
    new: bool
    diff: str
    what: str


def file_change(path: str, wanted: NodeFile, was: PresentFile | None, secrets: Iterable[str]) -> FileChange | None:
    """Return how a file would change; None if not at all."""
    access = ("root", wanted.group, wanted.mode)
    if was is not None and was.content == wanted.content:
        same = (was.owner, was.group, was.mode) == access
        return None if same else FileChange(path, new=False, diff="", what=f"root:{wanted.group} {wanted.mode:o}")
    if wanted.secret:
        return FileChange(path, new=was is None, diff="", what="new" if was is None else "another secret")
    before, after = (_hidden(text, secrets) for text in (was.content if was else "", wanted.content))
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), path if was else "/dev/null", path, lineterm=""
    )
    diff = "\n".join(lines)
    what = "new" if was is None else "changed" if diff else "another secret"
    return FileChange(path, new=was is None, diff=diff, what=what)


def _hidden(text: str, secrets: Iterable[str]) -> str:
    text = URL_PASSWORD.sub(rf"\1:{HIDDEN}@", _SECRET_OPTION.sub(rf"\1{HIDDEN}", text))
    for secret in secrets:
        if len(secret) >= SHORTEST_REDACTED:
            text = text.replace(secret, HIDDEN)
    return text
