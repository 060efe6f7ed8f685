# SPDX-License-Identifier: Apache-2.0
"""``dockstack tempest``: OpenStack's own test suite against the cloud."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from dockstack.cli.watching import INTERRUPTED
from dockstack.compute import support
from dockstack.deploy import external_programs, paths
from dockstack.deploy.hypervisors.storage_obstacles import has_file_system
from dockstack.deploy.node.environments import index_environment
from dockstack.deploy.node.own_package import lock_text
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, styled
from dockstack.verify.cloud import DEFAULT_CLOUD, connect
from dockstack.verify.interrupts import interrupt
from dockstack.verify.tempest import configuration, report, runner
from dockstack.verify.tempest.discover import discover
from dockstack.verify.tempest.model import Verdict
from dockstack.verify.tempest.progress import Progress
from dockstack.verify.tempest.selection import Choice, Selection, load_excluded, load_interop, name_of, select
from dockstack.verify.tempest.signing import signed_image
from dockstack.verify.tempest.sweep import swept
from dockstack.verify.tempest.workspace import Workspace

if TYPE_CHECKING:
    from dockstack.verify.tempest.model import Outcome, TempestFacts

_SHOWN_NAMES = 3


@click.command()
@click.option("--regex", "patterns", multiple=True, metavar="R", help="Only tests whose name matches; may be repeated.")
@click.option("--smoke", is_flag=True, help="Only what Tempest calls smoke tests.")
@click.option(
    "--interop", is_flag=True, help="Only what the interop guideline requires of compute, identity, image, network."
)
@click.option(
    "--concurrency", default=2, show_default=True, type=click.IntRange(1, 64), help="Processes that run tests."
)
@click.option("--hosts", type=click.IntRange(1), help="Refuse to run with fewer compute nodes than this.")
@click.option("--list", "list_only", is_flag=True, help="List the chosen tests and run none.")
@click.option("--report", "target", type=click.Path(file_okay=False, path_type=Path), help="Where the reports go.")
@click.option(
    "--os-cloud",
    envvar="OS_CLOUD",
    default=DEFAULT_CLOUD,
    show_default=True,
    help="An administrator's cloud of clouds.yaml.",
)
def tempest(
    *,
    patterns: tuple[str, ...],
    smoke: bool,
    interop: bool,
    concurrency: int,
    hosts: int | None,
    list_only: bool,
    target: Path | None,
    os_cloud: str,
) -> None:
    """Run OpenStack's own test suite, Tempest, against the cloud: all of it, or what is chosen.

    Tempest gets an environment of its own, an alternative image and two flavors, once; projects, users and networks are
    made for each class of tests and removed again, also after Ctrl-C. What is not supported is skipped, by flags that
    come from the driver's support matrix. Tests that no container can pass are named, with the reason, in
    verify/tempest/impossible.toml. The exit status is 0 if nothing failed.
    """
    if not list_only:
        external_programs.require("tempest")
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # which a shell in the background would have us ignore
    console = Screen()
    workspace = Workspace(state_directory())
    choice = Choice(patterns, smoke, load_interop() if interop else None)
    with workspace.alone():
        with console.status("Installing Tempest, if it is not there"):
            workspace.install(lock_text("tempest"), uv_program(), index_environment())
        excluded = load_excluded(swap=psutil.swap_memory().total > 0, vfat=has_file_system("vfat"))
        selection = select(workspace.tests(), choice, excluded)
        if list_only:
            click.echo("\n".join(name_of(test) for test in selection.tests))
            return
        with console.status("Setting up"):
            connection = connect(os_cloud)
            facts = discover(connection, workspace.directory)
            refuse_few(len(facts.hosts), hosts)
            flags = support.tempest_flags(support.load())
            settings = configuration.build(facts, flags, workspace.directory)
            workspace.configure(settings)
        directory = target or workspace.directory / "reports" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        directory.mkdir(parents=True, exist_ok=True)
        record = workspace.directory / "foreign-accounts"
        started = time.monotonic()

        def tell(text: str) -> None:
            console.print(text, style="dim")

        with (
            swept(connection, record, tell),
            signed_image(connection, facts, workspace.directory, tell) if selection.signed else nullcontext() as signed,
        ):
            workspace.of_signed_images.configure(configuration.of_signed_image(settings, signed))
            outcomes, finished = run(console, workspace, selection, concurrency, directory)
    seconds = time.monotonic() - started
    about = describe(facts, os_cloud, choice, concurrency, started=datetime.now(UTC))
    show(console, outcomes, report.write(outcomes, directory, about, seconds), seconds)
    if not finished:
        sys.exit(INTERRUPTED)
    if report.count(outcomes)[Verdict.FAILED]:
        sys.exit(1)


def state_directory() -> Path:
    """Return where Tempest is kept: the machine's place for root, a person's own otherwise."""
    if os.geteuid() == 0:
        return Path(paths.VAR) / "tempest"
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "dockstack/tempest"


def uv_program() -> str:
    """Find uv, which comes with the command line."""
    beside = Path(sys.prefix) / "bin" / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise DockstackError("uv is not there.", "It comes with the command line's environment: run `dockstack up`.")
    return found


def refuse_few(nodes: int, wanted: int | None) -> None:
    """Refuse, before anything runs, a cloud with fewer hosts than requested."""
    if wanted is not None and nodes < wanted:
        raise DockstackError(
            f"The cloud has {nodes} compute node(s) up, not {wanted}.", f"Run `dockstack up --hosts {wanted}`."
        )


def run(
    console: Screen, workspace: Workspace, selection: Selection, concurrency: int, directory: Path
) -> tuple[list[Outcome], bool]:
    """Run the selection and show how it goes; return the outcomes, and whether it came to its end."""
    told: list[Outcome] = []
    finished = False
    try:
        with Progress(console, len(selection.tests)) as progress:
            for event in runner.run(workspace, selection.rounds, concurrency, directory / "runner.log"):
                if isinstance(event, runner.Began):
                    progress.begin(event.name)
                else:
                    told.append(event)
                    progress.end(event)
        finished = True
    except KeyboardInterrupt:
        console.print("Interrupted; removing what the tests made", style="bold")
    return runner.complete(selection.tests, told, selection.excluded, interrupted=not finished), finished


def describe(facts: TempestFacts, cloud: str, choice: Choice, concurrency: int, *, started: datetime) -> dict[str, str]:
    """Tell what was tested and how, for the reports."""
    chosen = [
        *choice.patterns,
        *(["smoke"] if choice.smoke else []),
        *(["interop"] if choice.names is not None else []),
    ]
    return {
        "cloud": cloud,
        "tests": ", ".join(chosen) or "all",
        "concurrency": str(concurrency),
        "compute nodes": str(len(facts.hosts)),
        "compute API": " to ".join(facts.compute_versions),
        "ended": started.isoformat(timespec="seconds"),
    }


def show(console: Screen, outcomes: list[Outcome], reports: list[Path], seconds: float) -> None:
    """Print failures, the skipped by reason, the table, the sum and where the reports are."""
    console.print()
    for outcome in outcomes:
        if outcome.verdict is Verdict.FAILED:
            console.print(styled(("FAILED", "bold red"), f" {outcome.name}: {outcome.reason}"), soft_wrap=True)
    for reason, names in report.reasons(outcomes).items():
        console.print(styled((f"skipped {len(names):4}", "yellow"), f"  {reason}"), soft_wrap=True)
        if len(names) <= _SHOWN_NAMES:
            console.print("\n".join(f"               {name}" for name in names), style="dim", soft_wrap=True)
    console.print()
    console.print(report.table_of(outcomes))
    console.print(report.summary_of(outcomes, seconds))
    console.print(f"reports: {', '.join(str(path) for path in reports)}", soft_wrap=True)
