# SPDX-License-Identifier: Apache-2.0
"""``dockstack cloud import | export | show | check | keys``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from dockstack.cli.cloud import known_services, load, require_root
from dockstack.deploy import paths
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.deploy.wanted.attributes import SourceValues, command_line_values
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS, Need
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dockstack.deploy.join.probes import Outcome
    from dockstack.deploy.join.service_files import Found
    from dockstack.deploy.wanted.attributes import Attributes, Setting
    from dockstack.deploy.wanted.cloud_keys import Key

HIDDEN = "********"
DIRECTORY = click.Path(file_okay=False, exists=True)
CURE = "Name further files, or set what is missing: --set KEY=VALUE, and --set-file KEY=FILE for secrets and PEM."


def cloud_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add --cloud, which every command takes that works with a cloud document."""
    return click.option(
        "--cloud",
        "path",
        type=click.Path(dir_okay=False),
        default=paths.CLOUD_DOCUMENT,
        show_default=True,
        help="The cloud document; its secrets are beside it, in a file of mode 0600.",
    )(function)


def login_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add how SSH logs in to hosts that the environment file does not know."""
    for option in (
        click.option("--known-hosts", type=click.Path(dir_okay=False), help="The file with the hosts' keys."),
        click.option("--jump", metavar="[USER@]HOST[:PORT]", help="The host on the way; several with commas."),
        click.option("--key", type=click.Path(dir_okay=False), help="The file of the private key."),
        click.option("--user", help="Who logs in; unless root, sudo must work without a password.  [default: root]"),
    ):
        function = option(function)
    return function


@click.group()
def cloud() -> None:
    """Write down what compute nodes must know of a cloud.

    That is where its message bus, Keystone, OVN and metadata are, and the accounts that nodes log in with: of a cloud
    made by `dockstack up`, by DevStack, by Kolla-Ansible, by OpenStack-Ansible or by hand. Nothing is changed anywhere
    but in the document.
    """


@cloud.command("import")
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False))
@click.option("--from-here", is_flag=True, help="Take the cloud that `dockstack up` made on this machine.")
@click.option("--from-host", metavar="[USER@]HOST", help="Take what a running compute node of the cloud has.")
@click.option("--from-kolla", type=DIRECTORY, help="Take Kolla-Ansible's configuration directory, as /etc/kolla.")
@click.option("--from-openstack-ansible", type=DIRECTORY, help="Take OpenStack-Ansible's, as /etc/openstack_deploy.")
@click.option("--from-devstack", type=DIRECTORY, help="Take DevStack's own directory, with local.conf.")
@click.option("--inventory", "ansible_inventory", help="The deployer's Ansible inventory, or its listing as JSON.")
@login_options
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set one key that is no secret.")
@click.option("--set-file", "contents", multiple=True, metavar="KEY=FILE", help="Set one key to a file's content.")
@cloud_option
def import_(
    *,
    files: tuple[str, ...],
    from_here: bool,
    from_host: str | None,
    from_kolla: str | None,
    from_openstack_ansible: str | None,
    from_devstack: str | None,
    ansible_inventory: str | None,
    assignments: tuple[str, ...],
    contents: tuple[str, ...],
    path: str,
    **login: str | None,
) -> None:
    """Fill the cloud document from FILES of a cloud's services, a running compute node, or a deployer's directory.

    Give nova.conf of a compute node, and Neutron's files: the OVN (or OVN metadata) agent's of that node, or
    ml2_conf.ini. What they are, their contents tell. Of several that set a key, the last counts; --set and --set-file
    win over all. With --from-host, these files are looked for on that host, over SSH, where DevStack, Kolla-Ansible
    and packages put them. The deployers' directories tell what their templates make of their variables: the files of a
    compute node are better, where there is one. A document that no node could join with is refused, with all that is
    missing.

    \b
      dockstack cloud import --set release=2026.1 nova.conf neutron_ovn_metadata_agent.ini ml2_conf.ini
      dockstack cloud import --set release=2026.1 --from-host admin@compute3
      dockstack cloud import --from-kolla /etc/kolla --inventory multinode
    """  # noqa: D301 - click wants the character itself, in front of a paragraph that it leaves as it is
    ways: list[tuple[object, Callable[[], Found]]] = [
        (from_here, _here),
        (from_host, lambda: _host(str(from_host), login)),
        (from_kolla, lambda: _deployer("kolla", str(from_kolla), ansible_inventory)),
        (
            from_openstack_ansible,
            lambda: _deployer("openstack_ansible", str(from_openstack_ansible), ansible_inventory),
        ),
        (from_devstack, lambda: _deployer("devstack", str(from_devstack), None)),
        (files, lambda: _files(files)),
    ]
    chosen = [read for said, read in ways if said]
    if len(chosen) != 1:
        raise DockstackError("There is no one source to import.", "Name FILES, or one of the options --from-....")
    written(chosen[0](), (open_values(assignments), *file_values(contents)), path)
    say(f"Wrote {path}, and its secrets to {cloud_document.secrets_path(path)}. `dockstack cloud show` prints it.")


def written(found: Found, further: Iterable[SourceValues], path: str) -> cloud_document.CloudDocument:
    """Write the cloud document with what was found, and what a person says besides; return it.

    Raises:
        DockstackError: no node could join with it.
    """
    for warning in found.warnings:
        say(f"warning: {warning}", error=True)
    document = cloud_document.CloudDocument([*found.sources, *further])
    document.require_usable(CURE, found.problems)
    cloud_document.save(document, path)
    return document


def _files(files: tuple[str, ...]) -> Found:
    from dockstack.deploy.join import service_files  # noqa: PLC0415 - loads the recipes' engine

    return service_files.read(files)


def _host(host: str, login: Mapping[str, str | None]) -> Found:
    from dockstack.deploy.join import running_node, targets  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.node.connection import connect  # noqa: PLC0415

    named = targets.described([host], login)
    (node,) = targets.chosen(inventory.load(None, further=named), named, ())
    return running_node.values(connect(node))


def _deployer(name: str, directory: str, inventory: str | None) -> Found:
    from dockstack.deploy.join import devstack, kolla, openstack_ansible  # noqa: PLC0415 - loads the recipes' engine

    if name == "devstack":
        return devstack.values(directory)
    if name == "kolla":
        return kolla.values(directory, inventory)
    return openstack_ansible.values(directory, inventory)


def _here() -> Found:
    require_root("cloud import --from-here")
    known_services()
    return of_this_machine(load(None, ()).local.attributes)


def of_this_machine(attributes: Attributes) -> Found:
    """Return what nodes must know of the cloud that is on this machine, which has these attributes."""
    from dockstack.deploy.join import own_cloud  # noqa: PLC0415 - loads the recipes' engine

    return own_cloud.values(attributes, LocalShell())


def open_values(assignments: tuple[str, ...]) -> SourceValues:
    """Parse ``--set``; other users of the machine can read a command line, so it takes no secret.

    Raises:
        DockstackError: it names a secret, or is no assignment.
    """
    secret = {key.name for key in CLOUD_KEYS if key.secret}
    for assignment in assignments:
        name = assignment.partition("=")[0].strip()
        if name in secret:
            raise DockstackError(
                f"{name} is a secret, and others can read this command line.",
                f"Put it into a file of mode 0600, give --set-file {name}=FILE, and make it new if it was real.",
            )
    return command_line_values(assignments)


def file_values(assignments: tuple[str, ...]) -> list[SourceValues]:
    """Parse ``--set-file``: a key and the file that holds its value; an end of line is not part of it.

    Raises:
        DockstackError: there is no ``=``, or the file cannot be read.
    """
    found = []
    for assignment in assignments:
        name, separator, file = assignment.partition("=")
        if not separator or not file:
            raise DockstackError(f"--set-file {assignment!r} is no assignment.", "Write --set-file KEY=FILE.")
        try:
            content = Path(file).read_text().rstrip("\n")
        except OSError as error:
            raise DockstackError(f"{file} cannot be read: {error.strerror}.", "Check the path after =.") from error
        found.append(SourceValues(f"{cloud_document.SET_FILE}{file}", {name.strip(): content}))
    return found


@cloud.command()
@click.argument("deployer", type=click.Choice(["kolla", "openstack-ansible"]))
@click.argument("directory", type=click.Path(file_okay=False))
@click.argument("hosts", nargs=-1)
@click.option("--environment", type=click.Path(dir_okay=False), help="File with the nodes.")
@click.option("--limit", "limits", multiple=True, metavar="PATTERN", help="Only hosts like this, as in rack1-*.")
@login_options
def export(
    *,
    deployer: str,
    directory: str,
    hosts: tuple[str, ...],
    environment: str | None,
    limits: tuple[str, ...],
    **login: str | None,
) -> None:
    """Write files to DIRECTORY by which a DEPLOYER runs the switch, OVN and metadata on compute nodes of ours.

    For a cloud whose document has network.switch: deployer. HOSTS are as for `dockstack node`: none means all compute
    nodes of the environment file. What is written takes the place of what the last export wrote there.

    \b
      dockstack cloud export kolla docker-compute node7 admin@192.0.2.31
      dockstack cloud export openstack-ansible /etc/openstack_deploy
    """  # noqa: D301 - as above
    from dockstack.deploy.join import exports, targets  # noqa: PLC0415 - loads the recipes' engine

    named = targets.described(hosts, login)
    known = inventory.load(environment or paths.ENVIRONMENT_FILE, required=environment is not None, further=named)
    nodes = targets.chosen(known, named, limits)
    for path in exports.write(exports.files(deployer, nodes), directory):
        say(f"Wrote {path}")


@cloud.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@cloud_option
def show(path: str, *, as_json: bool) -> None:
    """Print the cloud document: every value and where it came from; of secrets, only whether they are there."""
    document = cloud_document.load(path)
    if as_json:
        told = {key.name: {"value": _shown(key, one), "from": one.source} for key, one in document.settings()}
        click.echo(json.dumps(told, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("KEY", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    table.add_column("FROM", overflow="fold")
    for key, one in document.settings():
        shown = _shown(key, one)
        text = ", ".join(shown) if isinstance(shown, list) else key.show(shown)
        table.add_row(key.name, text.partition("\n")[0], one.source, style="dim" if one.source == "default" else "")
    Screen().print(table)
    for problem in document.problems():
        Screen().print(styled((f"{problem.key}: {problem.text}", "red")), soft_wrap=True)


def _shown(key: Key, setting: Setting) -> object:
    if key.secret:
        return HIDDEN if setting.value else ""
    return list(setting.value) if isinstance(setting.value, tuple) else setting.value


@cloud.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@cloud_option
def check(path: str, *, as_json: bool) -> None:
    """Ask the cloud whether nodes would find what the document says; nothing is changed there.

    From this machine: a token for each account, Placement, RabbitMQ (login and a passive declare), OVN's databases and
    the way that tunnels take, or with ML2/OVS Neutron's message bus, clocks, and whether the cloud's release takes
    nodes of the document's. Exit status 0: all is well; 1: something would keep nodes from working.
    """
    from dockstack.deploy.join import probes  # noqa: PLC0415 - loads the recipes' engine

    document = cloud_document.load(path)
    document.require_usable(CURE)
    with Screen(stderr=True).status("Asking the cloud ..."):
        outcomes = probes.run(document)
    if as_json:
        click.echo(json.dumps([outcome.plain() for outcome in outcomes], indent=1))
    else:
        for outcome in outcomes:
            _show_outcome(outcome)
    sys.exit(1 if any(outcome.verdict is probes.Verdict.FAILED for outcome in outcomes) else 0)


def _show_outcome(outcome: Outcome) -> None:
    mark = {"passed": ("ok", "green"), "failed": ("FAILED", "bold red"), "skipped": ("-", "yellow")}[outcome.verdict]
    Screen().print(styled(mark, f" {outcome.name}: {outcome.title}"), soft_wrap=True)
    say(f"    {outcome.seen}")
    if outcome.means:
        say(f"    what it means: {outcome.means}")
        say(f"    what to do: {outcome.cure}")


@cloud.command()
def keys() -> None:
    """List all keys of the cloud document: which nodes need them, and what they mean."""
    table = Table(box=None, pad_edge=False)
    for title in ("KEY", "NEEDED", "MEANING"):
        table.add_column(title, no_wrap=title != "MEANING")
    for key in CLOUD_KEYS:
        meaning = f"{key.help} Secret." if key.secret else key.help
        table.add_row(key.name, key.need, meaning, style="dim" if key.need is Need.OPTIONAL else "")
    Screen().print(table)
