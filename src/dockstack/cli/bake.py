# SPDX-License-Identifier: Apache-2.0
"""``dockstack bake``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from dockstack.cli.cloud import environment_options, load, require_root
from dockstack.cli.watching import INTERRUPTED, stage_options, watch
from dockstack.deploy import paths
from dockstack.deploy.run.lock import exclusive
from dockstack.errors import DockstackError

LOG = f"{paths.LOG}/bake.log"
MIB = 1 << 20


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@environment_options
@click.option("--json", "json_lines", is_flag=True, help="Print events as JSON lines, for machines.")
def bake(out: Path, environment: str | None, assignments: tuple[str, ...], *, json_lines: bool) -> None:
    r"""Write a ready-made cloud to OUT, as in cloud.tar.zst, from which others come up without a download.

    \b
    Here, once:       dockstack up && dockstack bake cloud.tar.zst
    There, each time: dockstack up --from cloud.tar.zst

    OUT holds what `up` installed here (programs, the distribution's packages) and what takes it long to make: migrated,
    empty databases and the base image. It holds no password, key, id or data of this cloud, which goes on meanwhile;
    each cloud that comes up from OUT makes its own.

    OUT is for this version of dockstack, this distribution and this processor; another machine refuses it. It holds
    programs that root will run: trust it as far as whoever could write to it. Baking takes about two minutes and 2 GB
    beside OUT.
    """
    from dockstack.deploy.baking import bake as story  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.baking.rehearsal import NAMESPACES  # noqa: PLC0415
    from dockstack.deploy.run.apply import end_leftovers  # noqa: PLC0415

    settings = load(environment, assignments)
    require_root("bake")

    def say(text: str) -> None:
        click.echo(f"  {text}", err=json_lines)

    def rehearse(directory: Path) -> None:
        line = [*NAMESPACES, sys.executable, "-m", "dockstack.deploy.baking.rehearsal", "--directory", str(directory)]
        line += stage_options(environment, assignments)
        status = watch(line, LOG, "bake", json_lines=json_lines, ending=signal.SIGKILL, again="it begins anew")
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            raise DockstackError("The databases could not be made.", "See above, and run `dockstack bake` again.")

    with exclusive("bake"):
        end_leftovers()
        archive = story.bake(out.absolute(), settings.local, rehearse, say)
    size = archive.path.stat().st_size // MIB
    click.echo(f"{out} has {size} MiB. Use it: dockstack up --from {out}", err=json_lines)
