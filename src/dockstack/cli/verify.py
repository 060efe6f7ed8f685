# SPDX-License-Identifier: Apache-2.0
"""``dockstack verify``: run the exercises that prove the cloud."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from dockstack.terminal import Screen, styled
from dockstack.verify.cloud import DEFAULT_CLOUD, Choices, connect, find_facts
from dockstack.verify.exercises import choose
from dockstack.verify.interrupts import interrupt
from dockstack.verify.model import Capability, Timeouts, Verdict
from dockstack.verify.report import evidence_of, json_of, summary_of, table_of
from dockstack.verify.runner import run_all
from dockstack.verify.sweep import only_run, sweep

if TYPE_CHECKING:
    from dockstack.verify.context import Exercise
    from dockstack.verify.model import CloudFacts, Result


@click.command()
@click.option("--only", "names", multiple=True, metavar="NAME", help="Run only this exercise; may be given again.")
@click.option("--list", "list_only", is_flag=True, help="List the exercises and what each needs; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option(
    "--os-cloud", envvar="OS_CLOUD", default=DEFAULT_CLOUD, show_default=True, help="Which cloud of clouds.yaml."
)
@click.option("--image", help="Boot from this image; default: dockstack-base.")
@click.option("--flavor", help="Boot with this flavor; default: the smallest that fits.")
@click.option("--network", help="Boot on this network; default: private.")
def verify(
    *,
    names: tuple[str, ...],
    list_only: bool,
    as_json: bool,
    os_cloud: str,
    image: str | None,
    flavor: str | None,
    network: str | None,
) -> None:
    """Prove the cloud: boot, log in, networks, isolation, delete.

    Each exercise makes what it needs and removes it again, also after Ctrl-C. What a killed run left behind is removed
    first. The exit status is 0 if nothing failed. ACTIVE_TIMEOUT, TERMINATE_TIMEOUT and ASSOCIATE_TIMEOUT (seconds)
    come from the environment, as for DevStack's exercises.
    """
    exercises = choose(names)
    if list_only:
        click.echo("\n".join(f"{each.name:16} {each.title}{needs_of(each)}" for each in exercises))
        return
    timeouts = Timeouts.from_environment()
    signal.signal(signal.SIGTERM, interrupt)
    console = Screen(stderr=as_json)
    with only_run(os_cloud):
        connection = connect(os_cloud)
        facts = find_facts(connection, Choices(image, flavor, network))
        admin = Capability.ADMIN not in facts.missing
        sweep(
            connection, timeouts.terminate, lambda text: console.print(text, style="dim", soft_wrap=True), admin=admin
        )
        results = run_with_progress(console, exercises, connection, facts, timeouts)
    if as_json:
        click.echo(json_of(os_cloud, facts, results))
    else:
        show(console, results)
    if any(result.verdict is Verdict.FAILED for result in results):
        sys.exit(1)


def needs_of(exercise: Exercise) -> str:
    """Name the needs of an exercise in brackets."""
    return f" [{', '.join(sorted(exercise.needs))}]" if exercise.needs else ""


def run_with_progress(
    console: Screen, exercises: tuple[Exercise, ...], connection: object, facts: CloudFacts, timeouts: Timeouts
) -> list[Result]:
    """Run, showing what goes on now and a line for each result."""
    results: list[Result] = []
    with console.status("starting") as status:
        for result in run_all(
            exercises,
            connection,
            facts,
            timeouts,
            lambda name, text: status.update(styled((name, "bold"), f": {text}")),
        ):
            results.append(result)
            mark = {
                Verdict.PASSED: ("ok", "green"),
                Verdict.FAILED: ("FAILED", "bold red"),
                Verdict.SKIPPED: ("-", "yellow"),
            }
            took = (f" ({result.seconds:.1f} s)", "dim")
            console.print(styled(mark[result.verdict], f" {result.name}: {result.title}", took), soft_wrap=True)
            if result.verdict is Verdict.FAILED:
                console.print(evidence_of(result), soft_wrap=True)
    return results


def show(console: Screen, results: list[Result]) -> None:
    """Print the table and the sum."""
    console.print()
    console.print(table_of(results))
    console.print(summary_of(results))
