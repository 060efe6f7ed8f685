# SPDX-License-Identifier: Apache-2.0
"""The ``dockstack`` command: each subcommand lives in its own file and is loaded when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from dockstack.cli import proxies
from dockstack.errors import DockstackError

# command -> (module, attribute, one-line help); the help stands here so that `--help` imports nothing
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("dockstack.cli.up", "up", "Bring the cloud up: install, configure, start; safe to run again."),
    "status": ("dockstack.cli.cloud", "status", "Show every service: is it healthy, since when, its memory."),
    "logs": ("dockstack.cli.cloud", "logs", "Show the log of a service, or the last lines of all."),
    "down": ("dockstack.cli.cloud", "down", "Stop the cloud; servers and data stay."),
    "clean": ("dockstack.cli.cloud", "clean", "Remove all that dockstack made from this machine."),
    "bake": ("dockstack.cli.bake", "bake", "Write a ready-made cloud to a file, from which `up --from` takes seconds."),
    "config": ("dockstack.cli.config", "config", "Show attributes, their values and where each came from."),
    "driver": ("dockstack.cli.driver", "driver", "Let a Nova that you have find the driver: install, remove, check."),
    "hypervisor": ("dockstack.cli.hypervisor", "hypervisor", "Run servers here for a Nova that you have: five verbs."),
    "cloud": ("dockstack.cli.cloud_document", "cloud", "What compute nodes must know of a cloud: import, check."),
    "node": ("dockstack.cli.node", "node", "Compute nodes of a cloud, over SSH: add, check, drain, remove."),
    "doctor": ("dockstack.cli.doctor", "doctor", "Find out what is wrong with machines and their cloud."),
    "image": ("dockstack.cli.image", "image", "Build, import, list, push and pull images."),
    "console": ("dockstack.cli.console", "console", "Open a server's serial console, here or in a browser."),
    "verify": ("dockstack.cli.verify", "verify", "Prove the cloud: boot, log in, networks, isolation, delete."),
    "tempest": ("dockstack.cli.tempest", "tempest", "Run OpenStack's own test suite against the cloud."),
    "chaos": ("dockstack.cli.chaos", "chaos", "Kill parts of the cloud at random, and find out what was lost."),
    "bench": ("dockstack.cli.bench", "bench", "Measure the cloud beside its floors."),
}
CHECKOUT = Path(__file__).resolve().parents[3]
if (CHECKOUT / "tools" / "test.py").exists():  # a developer's tool, which no wheel holds
    sys.path.append(str(CHECKOUT))
    COMMANDS["test"] = ("tools.test", "test", "Run the project's tests, in layers.")


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List commands in the order in which they are used, not of the alphabet."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand's module; None if there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=None, version="0.1.0", prog_name="dockstack")
def cli() -> None:
    """Nova servers as Docker containers, on a real OpenStack cloud of your own.

    Start with `dockstack up`; then `dockstack verify` proves the cloud, and `. /etc/dockstack/openrc`
    lets you use it.
    """


def main() -> None:
    """Run the command line; an error that we know is two sentences and exit status 1, not a traceback."""
    proxies.spare_this_machine(os.environ)
    try:
        cli.main(standalone_mode=True, prog_name="dockstack")
    except DockstackError as error:
        click.echo(f"error: {error.brief}", err=True)
        if error.details:
            click.echo(error.details.rstrip(), err=True)
        if error.resolution:
            click.echo(f"what to do: {error.resolution}", err=True)
        if hint := proxies.hint(error, os.environ):
            click.echo(f"note: {hint}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
