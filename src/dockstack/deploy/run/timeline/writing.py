# SPDX-License-Identifier: Apache-2.0
"""Where a recorded run goes: the ending of the file's name says in which form."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.run.timeline.page import page_of
from dockstack.deploy.run.timeline.table import table_of
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.run.timeline.recording import Recording

FORMS = {".html": page_of, ".txt": table_of}
OUTPUT = "-"


def check_target(target: str, *, output_taken: bool) -> None:
    """Refuse a target before anything is done for it; ``output_taken``: standard output is for machines.

    Raises:
        DockstackError: there is no form for its name, or no place to write it to.
    """
    if target == OUTPUT:
        if output_taken:
            raise DockstackError("The timeline cannot go where the JSON lines go.", "Name a file for it.")
        return
    path = Path(target)
    if path.suffix not in FORMS:
        raise DockstackError(
            f"A timeline cannot be written as {target}.", f"Name a file that ends in {' or '.join(FORMS)}, or {OUTPUT}."
        )
    if not path.absolute().parent.is_dir():
        raise DockstackError(f"There is no directory for {target}.", "Make it, or name another file.")


def write(recording: Recording, target: str) -> None:
    """Write the page or the table; ``-`` is the table on standard output."""
    if target == OUTPUT:
        sys.stdout.write(table_of(recording))
        return
    path = Path(target)
    path.write_text(FORMS[path.suffix](recording))
