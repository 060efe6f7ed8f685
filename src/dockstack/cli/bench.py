# SPDX-License-Identifier: Apache-2.0
"""``dockstack bench``: measure the cloud beside its baselines."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import openstack
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors

from dockstack.bench import up_bench
from dockstack.bench.machine import describe_machine
from dockstack.errors import DockstackError
from dockstack.terminal import Screen
from dockstack.verify.interrupts import interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@click.group()
def bench() -> None:
    """Measure the cloud beside two baselines in the same run: Nova's fake driver, and the bare engine."""
    signal.signal(signal.SIGTERM, interrupt)


on_network = click.option("--network", default="private", show_default=True, help="The servers' network.")
"""The option of benchmarks whose servers are on a network that is there; density makes its own."""


def measuring(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that every benchmark of servers has.

    Args:
        name: of the files that it writes.
    """
    options = (
        click.option("--image", default="dockstack-base", show_default=True, help="What servers boot from."),
        click.option("--flavor", default="m1.nano", show_default=True, help="The servers' flavor."),
        click.option(
            "--os-cloud", envvar="OS_CLOUD", default="dockstack", show_default=True, help="Cloud of clouds.yaml."
        ),
        click.option(
            "--output", type=click.Path(file_okay=False, path_type=Path), help=f"Write {name}.json and .png there."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table."),
    )
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@bench.command()
@click.option("--count", default=20, show_default=True, type=click.IntRange(1, 1000), help="Samples of each kind.")
@click.option(
    "--burst", default=20, show_default=True, type=click.IntRange(0, 1000), help="Servers at once; 0: no burst."
)
@click.option("--warm-up", default=2, show_default=True, type=click.IntRange(0, 100), help="Rounds thrown away first.")
@on_network
@click.option("--no-floor", is_flag=True, help="Leave out the fake driver; no goal can be stated then.")
@measuring("boot")
def boot(
    *,
    count: int,
    burst: int,
    warm_up: int,
    image: str,
    flavor: str,
    network: str,
    no_floor: bool,
    os_cloud: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Time boot, delete and a burst, interleaved with the fake driver and `docker run`.

    Run it on the cloud's machine, as root, while nothing else runs there.
    """
    from dockstack.bench import report  # noqa: PLC0415 - only this command needs it
    from dockstack.bench.boot import Plan, measure  # noqa: PLC0415 - as above
    from dockstack.bench.fixture import Request  # noqa: PLC0415 - as above

    plan = Plan(count, burst, warm_up, Request(image, flavor, network, not no_floor, max(burst, 1)))
    present(report, "boot", partial(measure, plan=plan), os_cloud, output, as_json=as_json)


@bench.command()
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 100), help="Rounds of all actions.")
@click.option("--larger-flavor", default="m1.tiny", show_default=True, help="The flavor to resize to.")
@on_network
@click.option("--no-floor", is_flag=True, help="Leave out the fake driver.")
@measuring("actions")
def actions(
    *,
    count: int,
    image: str,
    flavor: str,
    larger_flavor: str,
    network: str,
    no_floor: bool,
    os_cloud: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Time every server action beside the fake driver's.

    Run it on the cloud's machine, as root, while nothing else runs there.
    """
    from dockstack.bench import actions as room  # noqa: PLC0415 - only this command needs it
    from dockstack.bench.fixture import Request  # noqa: PLC0415 - as above

    request = Request(image, flavor, network, not no_floor)
    run = partial(room.measure, request=request, larger_flavor=larger_flavor, count=count)
    present(room, "actions", run, os_cloud, output, as_json=as_json)


@bench.command()
@click.option("--servers", "steps", default="20,50,100", show_default=True, help="Numbers of idle servers, rising.")
@click.option(
    "--idle-seconds", default=60.0, show_default=True, type=click.FloatRange(1), help="How long to watch them idle."
)
@measuring("density")
def density(
    *,
    steps: str,
    image: str,
    flavor: str,
    idle_seconds: float,
    os_cloud: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Weigh idle servers by their number, beside as many plain containers.

    Run it on the cloud's machine, as root, while nothing else runs there.
    """
    from dockstack.bench import density as room  # noqa: PLC0415 - only this command needs it
    from dockstack.bench.fixture import Request  # noqa: PLC0415 - as above

    request = Request(image, flavor, room.NETWORK, baseline=False)
    run = partial(room.measure, request=request, steps=numbers(steps, "--servers"), idle_seconds=idle_seconds)
    present(room, "density", run, os_cloud, output, as_json=as_json)


@bench.command()
@click.option(
    "--sizes", default="32,256", show_default=True, help="MiB of random bytes that images and servers hold, rising."
)
@click.option("--count", default=3, show_default=True, type=click.IntRange(1, 100), help="Rounds of all sizes.")
@on_network
@measuring("images")
def images(
    *,
    sizes: str,
    count: int,
    image: str,
    flavor: str,
    network: str,
    os_cloud: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Time images on their way from Glance and snapshots to it, beside `docker load` and `docker save`.

    Run it on the cloud's machine, as root, while nothing else runs there.
    """
    from dockstack.bench import images as room  # noqa: PLC0415 - only this command needs it
    from dockstack.bench.fixture import Request  # noqa: PLC0415 - as above

    run = partial(room.measure, request=Request(image, flavor, network), sizes=numbers(sizes, "--sizes"), count=count)
    present(room, "images", run, os_cloud, output, as_json=as_json)


@bench.command()
@click.option("--size", default=500, show_default=True, type=click.IntRange(1, 10000), help="MiB of a blob.")
@click.option("--count", default=3, show_default=True, type=click.IntRange(1, 100), help="Rounds.")
@click.option("--os-cloud", envvar="OS_CLOUD", default="dockstack", show_default=True, help="Cloud of clouds.yaml.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write registry.json and .png there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def registry(*, size: int, count: int, os_cloud: str, output: Path | None, as_json: bool) -> None:
    """Time a blob's push and pull beside the distribution's docker-registry on the same disk.

    Run it on the cloud's machine, as root, while nothing else runs there.
    """
    from dockstack.bench import registry as room  # noqa: PLC0415 - only this command needs it

    present(room, "registry", partial(room.measure, size=size, count=count), os_cloud, output, as_json=as_json)


@bench.command()
@click.option("--size", default=512, show_default=True, type=click.IntRange(16, 10000), help="MiB that are written.")
@click.option("--count", default=7, show_default=True, type=click.IntRange(1, 100), help="Rounds.")
@on_network
@click.option("--no-floor", is_flag=True, help="Leave out the fake driver.")
@measuring("volumes")
def volumes(
    *,
    size: int,
    count: int,
    image: str,
    flavor: str,
    network: str,
    no_floor: bool,
    os_cloud: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Time attaching a volume beside the fake driver, and writing to it beside a bare loop device and a file.

    Run it on the cloud's machine, as root, while nothing else runs there.
    """
    from dockstack.bench import volumes as room  # noqa: PLC0415 - only this command needs it
    from dockstack.bench.fixture import Request  # noqa: PLC0415 - as above

    run = partial(room.measure, request=Request(image, flavor, network, not no_floor), size=size, count=count)
    present(room, "volumes", run, os_cloud, output, as_json=as_json)


def numbers(text: str, option: str) -> list[int]:
    """Read rising numbers from a list with commas.

    Raises:
        click.BadParameter: it is none.
    """
    if not all(number.strip().isdecimal() and int(number) for number in text.split(",")):
        raise click.BadParameter(f"{text!r} is no list of numbers such as 20,50,100.", param_hint=option)
    return sorted({int(number) for number in text.split(",")})


def present(
    room: Any, name: str, measure: Callable[..., Any], os_cloud: str, output: Path | None, *, as_json: bool
) -> None:
    """Run a benchmark and show what it measured.

    Args:
        room: has ``table_of``, ``notes_of`` and ``document_of`` for what was measured.
        name: of the files.
        measure: takes a connection, and ``say``.
        os_cloud: which cloud.
        output: where to write document and plot, if anywhere.
        as_json: print the document instead of the table.
    """
    console = Screen(stderr=as_json)
    with talking_to(os_cloud) as connection, console.status("starting") as status:
        measured = measure(connection, say=status.update)
    document = json.dumps(room.document_of(measured), indent=2)
    if output:
        write(document, measured, output / name)
        console.print(f"wrote {output / name}.json and .png")
    if as_json:
        click.echo(document)
        return
    console.print(room.table_of(measured))
    for note in room.notes_of(measured):
        console.print(note)


def write(document: str, measured: object, path: Path) -> None:
    """Write the document and the plot of what was measured, beside each other; ``path`` is without their suffixes."""
    from dockstack.bench import plots  # noqa: PLC0415 - matplotlib takes a second to import

    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(document + "\n")
    plots.draw(measured, path.with_suffix(".png"))


@contextmanager
def talking_to(os_cloud: str) -> Iterator[Any]:
    """Connect, and say in our own words what the cloud refuses.

    Raises:
        DockstackError: it refused.
    """
    try:
        yield openstack.connect(cloud=os_cloud, app_name="dockstack")
    except (sdk_errors.SDKException, auth_errors.ClientException) as error:
        raise DockstackError(
            f"The cloud {os_cloud!r} did not do what the benchmark asked for.",
            "Prove it first with `dockstack verify`.",
            str(error),
        ) from error


@bench.command()
@click.option("--fresh", is_flag=True, help="Remove the whole cloud first (`dockstack clean`) and time a first `up`.")
@click.option("--yes", is_flag=True, help="Do not ask before --fresh removes the cloud.")
@click.option("--no-warm", is_flag=True, help="Leave out stopping and starting the cloud.")
@click.option(
    "--idle-seconds", default=60.0, show_default=True, type=click.FloatRange(0), help="Rest before memory is read."
)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write up.json into this directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def up(*, fresh: bool, yes: bool, no_warm: bool, idle_seconds: float, output: Path | None, as_json: bool) -> None:
    """Time `up` when there is nothing to do, after `down`, and (--fresh) from nothing; weigh the idle cloud."""
    if fresh and not yes:
        click.confirm("This removes the cloud with all its servers and data. Go on?", abort=True, err=as_json)
    console = Screen(stderr=as_json)
    phases = up_bench.Phases(fresh, not no_warm, idle_seconds)
    with console.status("starting") as status:
        measured = up_bench.measure([sys.executable, "-m", "dockstack.cli"], phases, describe_machine(), status.update)
    document = json.dumps(up_bench.document_of(measured), indent=2)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "up.json").write_text(document + "\n")
        console.print(f"wrote {output / 'up.json'}")
    if as_json:
        click.echo(document)
        return
    console.print(up_bench.runs_table(measured))
    for run in measured.runs:
        if run.steps and run.name in {"fresh up", "warm up"}:
            console.print(up_bench.steps_table(run))
    console.print(up_bench.memory_table(measured))


@bench.command()
@click.argument("old", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
def compare(*, old: Path, new: Path, as_json: bool) -> None:
    """Name what is worse in NEW than in OLD by more than the noise; both are documents of one benchmark.

    Exit status 0: nothing is; 1: something is.
    """
    from dockstack.bench import comparison as room  # noqa: PLC0415 - only this command needs it

    found = room.compare(read(old), read(new))
    if as_json:
        click.echo(json.dumps(room.document_of(found), indent=2))
    else:
        console = Screen()
        console.print(room.table_of(found))
        for note in found.notes:
            console.print(note)
        names = "; ".join(change.name for change in found.regressions)
        console.print(f"{len(found.regressions)} regressions{f': {names}' if names else ''}")
    sys.exit(1 if found.regressions else 0)


def read(path: Path) -> dict[str, Any]:
    """Read a document that a benchmark wrote.

    Raises:
        DockstackError: it is none.
    """
    try:
        document = json.loads(path.read_text())
    except (ValueError, UnicodeError) as error:
        raise DockstackError(f"{path} is no JSON document.", "Name one that a benchmark wrote.", str(error)) from error
    if not isinstance(document, dict):
        raise DockstackError(f"{path} is no document of a benchmark.", "Name one that a benchmark wrote.")
    return document
