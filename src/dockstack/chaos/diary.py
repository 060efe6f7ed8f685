# SPDX-License-Identifier: Apache-2.0
"""The log that every server writes, a line a second, each with a checksum over all before it; pure.

No line is synced to a disk: what a kill ends is processes, and the kernel keeps what they have written. A line that was
read from outside has been written, so it must be there for ever after, until its server is rebuilt or deleted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

PATH = "/var/log/chaos"
# Nova takes 255 characters for a value of a server's metadata.
_SCRIPT = (
    f"f={PATH};[ -s $f ]||echo 0 $(head -c 9 /dev/urandom|base64)>$f;set -- $(tail -n1 $f);n=$1 h=$2;"
    "while n=$((n+1));do h=$(echo $h $n|md5sum|cut -c-32);echo $n $h>>$f;sleep 1;done& exec /sbin/init"
)
METADATA = {"docker_command": json.dumps(["sh", "-c", _SCRIPT], separators=(",", ":"))}


@dataclass(frozen=True)
class Page:
    """How far a log goes.

    Attributes:
        first: its first line, which is another for each log ever begun.
        number: its last line's.
        checksum: its last line's, over all lines.
    """

    first: str
    number: int
    checksum: str


class Torn(Exception):  # noqa: N818 - said of a diary
    """A log is not what its server has written."""


def read(text: str) -> Page:
    """Check a log from its first line to its last and return how far it goes.

    Raises:
        Torn: a line is missing, damaged or half there.
    """
    lines = text.splitlines()
    if not lines or not text.endswith("\n"):
        raise Torn("it is empty" if not lines else f"its last line is half there: {lines[-1]!r}")
    _, _, checksum = lines[0].partition(" ")
    for number, line in enumerate(lines):
        if number:
            checksum = follow(checksum, number)
        if line != f"{number} {checksum}":
            raise Torn(f"line {number} should be '{number} {checksum}' and is {line!r}")
    return Page(lines[0], len(lines) - 1, checksum)


def follow(checksum: str, number: int) -> str:
    """Return the checksum of the line after the one with this checksum, as the server computes it."""
    return hashlib.md5(f"{checksum} {number}\n".encode(), usedforsecurity=False).hexdigest()


def compare(seen: Page | None, text: str) -> Page:
    """Check a log against what was seen of it earlier; return how far it goes now.

    Raises:
        Torn: a line that was there is missing, or is another.
    """
    page = read(text)
    if seen is None:
        return page
    if page.first != seen.first:
        raise Torn(f"it is another log: it begins with {page.first!r} and began with {seen.first!r}")
    if page.number < seen.number:
        raise Torn(f"it ends at line {page.number}, and line {seen.number} had been written")
    return page
