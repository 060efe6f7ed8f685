# SPDX-License-Identifier: Apache-2.0
"""``dockstack config``: attributes, their values, and where each came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.table import Table

from dockstack.cli.cloud import environment_options, load
from dockstack.errors import DockstackError
from dockstack.terminal import Screen

if TYPE_CHECKING:
    from dockstack.deploy.wanted.attributes import Attributes, Setting


@click.group()
def config() -> None:
    """Show attributes, their values and where each came from."""


@config.command()
@click.argument("name", required=False)
@environment_options
@click.option("--node", help="Of this node.  [default: this machine]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def show(
    name: str | None, environment: str | None, assignments: tuple[str, ...], node: str | None, *, as_json: bool
) -> None:
    """Print all attributes, or all about one."""
    attributes = _attributes(environment, assignments, node)
    if name:
        _show_one(attributes.setting(name), as_json=as_json)
        return
    settings = attributes.settings()
    if as_json:
        click.echo(json.dumps({one.attribute.name: _plain(one) for one in settings}, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("ATTRIBUTE", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    table.add_column("FROM")
    for one in settings:
        style = "dim" if one.source == "default" else ""
        table.add_row(one.attribute.name, one.attribute.show(one.value), one.source, style=style)
    Screen().print(table)


def _attributes(environment: str | None, assignments: tuple[str, ...], node: str | None) -> Attributes:
    inventory = load(environment, assignments)
    if node is None:
        return inventory.local.attributes
    for candidate in inventory.nodes:
        if candidate.name == node:
            return candidate.attributes
    names = ", ".join(candidate.name for candidate in inventory.nodes)
    raise DockstackError(f"There is no node {node!r}.", f"There are {names}.")


def _plain(setting: Setting) -> dict[str, object]:
    value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
    return {
        "value": value,
        "from": setting.source,
        "kind": setting.attribute.kind.value,
        "help": setting.attribute.help,
    }


def _show_one(setting: Setting, *, as_json: bool) -> None:
    attribute = setting.attribute
    if as_json:
        click.echo(json.dumps({attribute.name: _plain(setting)}, indent=1))
        return
    click.echo(f"{attribute.name} = {attribute.show(setting.value)}")
    click.echo(f"  from:    {setting.source}")
    click.echo(f"  kind:    {attribute.kind.value}")
    click.echo(f"  default: {attribute.show(attribute.default_value)}")
    if attribute.choices:
        click.echo(f"  choices: {', '.join(attribute.choices)}")
    click.echo(f"  {attribute.help}")
