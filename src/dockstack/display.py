# SPDX-License-Identifier: Apache-2.0
"""Text of strangers, made fit for a line of a log, an error or a terminal.

Names of images, servers and networks are their owners' choice and may hold line breaks, which would forge lines of a
log, and control sequences, which would have a terminal do what they say.
"""

from __future__ import annotations


def printable(text: object, keep: str = "") -> str:
    r"""Return a text with everything that does not print as it stands written out: a line break as ``\n``.

    Args:
        text: any value; its ``str`` is taken.
        keep: characters that stay what they are.
    """
    said = str(text)
    if said.isprintable():
        return said
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in said)


def printable_lines(text: object) -> str:
    """Return a text that may have several lines, each as ``printable`` has it."""
    return printable(text, keep="\n\t")
