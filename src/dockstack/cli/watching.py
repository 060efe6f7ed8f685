# SPDX-License-Identifier: Apache-2.0
"""A process of ours that runs stages, as a person sees it: progress while it works, and Ctrl-C in good order."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.node import processes
from dockstack.deploy.run.events import Event, Kind, parse
from dockstack.deploy.run.progress import choose_display
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130


def stage_options(environment: str | None, assignments: tuple[str, ...]) -> list[str]:
    """Return what a process that runs stages is told of the cloud."""
    chosen = [part for assignment in assignments for part in ("--set", assignment)]
    return ["--environment", environment or paths.ENVIRONMENT_FILE, *chosen]


def watch(
    line: list[str],
    log_path: str,
    command: str,
    *,
    json_lines: bool,
    ending: signal.Signals = signal.SIGTERM,
    record: Callable[[Event], None] | None = None,
    again: str = "it goes on from here",
) -> int:
    """Run a process that tells of its stages, and show that; return its exit status.

    Args:
        line: its command line.
        log_path: where its errors go.
        command: of ours, which a person runs again if the process dies.
        json_lines: whether the events are printed as they are.
        ending: what the process gets on Ctrl-C.
        record: is given each event, too.
        again: what the command does then.
    """
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    marked = {**os.environ, processes.RUN_MARK: str(os.getpid())}
    with os.fdopen(os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as log:
        # A session of its own: Ctrl-C reaches only us, and we end the stages in good order.
        child = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=log, text=True, env=marked, start_new_session=True
        )
    assert child.stdout is not None  # noqa: S101 - it was asked for above
    with choose_display(json_lines=json_lines) as display:
        ended = interrupted = False
        while True:
            try:
                for text in child.stdout:
                    event = parse(text)
                    if event is not None:
                        ended = ended or event.kind is Kind.END
                        display.show(event)
                        if record:
                            record(event)
                child.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                child.send_signal(ending)
    if interrupted:
        return INTERRUPTED
    if not ended:
        details = Path(log_path).read_text()[-2000:]
        raise DockstackError("The run ended before its end.", f"Run `dockstack {command}` again: {again}.", details)
    return child.returncode
