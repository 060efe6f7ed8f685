# SPDX-License-Identifier: Apache-2.0
"""``dockstack chaos``: kill the cloud's parts at random while servers are being worked on, then look what was lost."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockstack.chaos import machine
from dockstack.chaos.journal import Journal
from dockstack.chaos.means import Means
from dockstack.chaos.model import Victim, Wishes
from dockstack.chaos.report import json_of, line_of, summary_of
from dockstack.chaos.run import Run, Stage
from dockstack.chaos.story import describe, draw
from dockstack.chaos.victims import Hunter
from dockstack.deploy import paths
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.supervision.backends import choose
from dockstack.deploy.supervision.records import Records
from dockstack.errors import DockstackError
from dockstack.terminal import Screen
from dockstack.verify.cloud import DEFAULT_CLOUD, Choices, connect, find_facts
from dockstack.verify.context import Context
from dockstack.verify.interrupts import interrupt
from dockstack.verify.model import PREFIX, Capability, Timeouts
from dockstack.verify.resources import PING, SSH, make_group
from dockstack.verify.sweep import only_run, sweep

if TYPE_CHECKING:
    from dockstack.chaos.model import Outcome, Story

NEEDS = frozenset({Capability.HOST, Capability.ADMIN, Capability.DOCKER})
KILLS_A_MINUTE = 4
SWEEP_SECONDS = 240.0


@dataclass(frozen=True)
class Wanted:
    """How a story is to be told."""

    cloud: str
    journal: Path
    patience: float
    keep: bool
    as_json: bool


@click.command()
@click.option("--minutes", default=2.0, show_default=True, type=click.FloatRange(0.1, 1440), help="How long.")
@click.option("--seed", type=int, help="Which story; the same seed and options tell the same one. Default: a new one.")
@click.option("--kills", type=click.IntRange(0, 10_000), help=f"How many. Default: {KILLS_A_MINUTE} a minute.")
@click.option("--servers", default=6, show_default=True, type=click.IntRange(1, 50), help="How many at a time.")
@click.option(
    "--hosts", type=click.IntRange(1, 2), help="Make a story for so many hosts. Default: those that the machine has."
)
@click.option(
    "--victim", "victims", multiple=True, type=click.Choice([victim.value for victim in Victim]),
    help="Kill only this; may be given several times. Default: whatever there is.",
)  # fmt: skip
@click.option("--volumes/--no-volumes", default=None, help="Work on volumes, too. Default: if the cloud has Cinder.")
@click.option("--plan", "plan_only", is_flag=True, help="Print the story; do nothing.")
@click.option("--yes", is_flag=True, help="Run although the cloud has servers of others, and endanger them.")
@click.option("--keep", is_flag=True, help="Leave the servers there to be looked at; the next run removes them.")
@click.option(
    "--patience", default=300.0, show_default=True, type=click.FloatRange(1), help="Seconds that calm may take to come."
)
@click.option(
    "--journal", "journal_path", type=click.Path(dir_okay=False, path_type=Path),
    help=f"Where to write down what happens. Default: a new file in {paths.LOG}.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
@click.option(
    "--os-cloud", envvar="OS_CLOUD", default=DEFAULT_CLOUD, show_default=True, help="Which cloud of clouds.yaml."
)
def chaos(
    *,
    minutes: float,
    seed: int | None,
    kills: int | None,
    servers: int,
    hosts: int | None,
    victims: tuple[str, ...],
    volumes: bool | None,
    plan_only: bool,
    yes: bool,
    keep: bool,
    patience: float,
    journal_path: Path | None,
    as_json: bool,
    os_cloud: str,
) -> None:
    """Kill the cloud's parts at random while servers are being worked on, and find out what was lost.

    Servers are made, rebooted, moved, shelved, rescued ... several at once, while nova-compute, engines, shims, LXCFS,
    the switch, the message bus, the database, APIs and a whole host are killed (SIGKILL). Then every server that Nova
    calls ACTIVE must run once, where Nova says, with its files, its interfaces and its limits; nothing may be left of
    a deleted one; none may be stuck; Placement must agree. The exit status is 0 if all that is true.

    Run it as root on the cloud's machine, best with two hosts (`dockstack up --hosts 2`). It endangers every server of
    the cloud, so it refuses to run where there are others than its own. What a killed run left behind is removed first.
    docs/chaos.md explains what is found.
    """
    places = () if plan_only and hosts else machine.list_places()
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    count = round(minutes * KILLS_A_MINUTE) if kills is None else kills
    wishes = Wishes(seed, minutes, count, servers, hosts or len(places), tuple(map(Victim, victims)), bool(volumes))
    if plan_only:
        click.echo("\n".join(describe(draw(wishes))))
        return
    signal.signal(signal.SIGTERM, interrupt)
    console = Screen(stderr=as_json)
    path = journal_path or Path(paths.LOG) / f"chaos-{seed}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    connection = connect(os_cloud)
    facts = find_facts(connection, Choices())
    if reason := facts.why_not(NEEDS):
        raise DockstackError(f"Chaos cannot run here: {reason}.", "Run it as root, on the machine of the cloud.")
    without = facts.why_not(frozenset({Capability.VOLUMES}))
    if volumes and without:
        raise DockstackError(f"There are no volumes to work on: {without}.", "Leave --volumes away.")
    story = draw(replace(wishes, volumes=not without and volumes is not False))
    refuse_strangers(connection, yes=yes)
    with only_run(os_cloud):
        sweep(connection, SWEEP_SECONDS, lambda text: console.print(text, style="dim", soft_wrap=True), admin=True)
        console.print(f"seed {seed}: {len(story.kills)} kills, {servers} servers, {story.wishes.hosts} hosts")
        ctx = Context(connection, facts, "chaos", lambda _: None, Timeouts(terminate=SWEEP_SECONDS))
        wanted = Wanted(os_cloud, path, patience, keep, as_json)
        outcome = tell(ctx, story, wanted, places[: story.wishes.hosts], console)
    if outcome.findings:
        sys.exit(1)


def refuse_strangers(connection: Any, *, yes: bool) -> None:
    """Ask before servers of others are endangered.

    Raises:
        DockstackError: there are some, and nobody has agreed.
    """
    found = [each for each in connection.compute.servers(all_projects=True) if not each.name.startswith(PREFIX)]
    if not found or yes:
        return
    names = ", ".join(sorted(each.name for each in found)[:5])
    question = (
        f"This cloud has {len(found)} servers of others ({names}); what is killed takes some of them down. Go on?"
    )
    if sys.stdin.isatty() and click.confirm(question):
        return
    raise DockstackError(
        f"This cloud has {len(found)} servers of others, which chaos endangers: {names}.",
        "Run it on a cloud of its own, or say --yes.",
    )


def tell(ctx: Context, story: Story, wanted: Wanted, places: tuple[machine.Place, ...], console: Screen) -> Outcome:
    """Tell a story and find out what it did; whatever happens, take back what it made."""
    services, backend = Records.here().services(), choose(LocalShell(), "auto")
    say = partial(console.print, style="dim", soft_wrap=True)
    with ExitStack() as ensure:
        journal = Journal(wanted.journal, lambda note: say(line_of(note)))
        ensure.callback(journal.close)
        if not wanted.keep:
            ensure.callback(ctx.stack.close)
        stage = Stage(
            connect=partial(connect, wanted.cloud),
            means=find_means(ctx),
            places=places,
            services=services,
            backend=backend,
            hunter=Hunter(services, backend, places),
            journal=journal,
            patience=wanted.patience,
        )
        run = Run(story, stage)
        if not wanted.keep:
            ensure.callback(run.clean_up)
        journal.note("story", **asdict(story.wishes), why=f"seed {story.wishes.seed}")
        run.tell()
        run.find_calm()
        if not wanted.keep:
            run.delete_all()
        outcome = run.conclude()
        journal.note("outcome", **outcome.as_dict())
        # Now, as what is left over may keep the rest from being taken back.
        if wanted.as_json:
            click.echo(json_of(story.wishes, outcome, wanted.journal))
        else:
            console.print(summary_of(outcome, wanted.journal), soft_wrap=True)
        return outcome


def find_means(ctx: Context) -> Means:
    """Make and find what the story's servers are made of."""
    group = make_group(ctx, (PING, SSH))
    flavors = sorted(ctx.connection.compute.flavors(), key=lambda each: (each.ram, each.disk))
    own = next(each for each in flavors if each.id == ctx.facts.flavor_id)
    larger = [each.id for each in flavors if each.ram > own.ram and each.disk == own.disk and not each.ephemeral]
    return Means(
        image_id=ctx.facts.image_id,
        network_id=ctx.facts.network_id,
        external_network=ctx.facts.external_network_id,
        flavors=(own.id, *larger[:1]),
        group=group.id,
        token=ctx.token,
    )
