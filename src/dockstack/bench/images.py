# SPDX-License-Identifier: Apache-2.0
"""``bench images``: how fast images come from Glance and snapshots go there, beside the engine's own load and save."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dockstack.bench.fixture import set_up
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import PREFIX
from dockstack.bench.servers import delete, post, snapshot, time_server, wait_active
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockstack.bench.engine_baseline import EngineBaseline
    from dockstack.bench.fixture import Fixture, Request

NAME = f"{PREFIX}images"
WORK = "/var/tmp"  # on the disk, as the data of the engine and of Glance


@dataclass(frozen=True)
class Sample:
    """One image's way, in seconds.

    Attributes:
        size: of what is added to the image and written by the server: random bytes, MiB.
        load: from Glance into the engine: what a server's boot takes longer than the next one's.
        raw_load: `docker load` of the same archive.
        loaded: the archive, MiB.
        snapshot: from asking for it until Glance has it all.
        raw_snapshot: `docker commit` of a container that has written as much, and `docker save` to a file.
        sent: the snapshot in Glance, MiB.
    """

    size: int
    load: float
    raw_load: float
    loaded: float
    snapshot: float
    raw_snapshot: float
    sent: float


@dataclass(frozen=True)
class Way:
    """One way of images of a size: the archive in MiB, and seconds with and without OpenStack."""

    name: str
    size: int
    archive: float
    ours: float
    raw: float

    @property
    def rate(self) -> float:
        """MiB a second; a difference of two boots may be noise, but is not taken for less than a clock's tick."""
        return self.archive / max(self.ours, 0.01)

    @property
    def raw_rate(self) -> float:
        """The same of the engine alone."""
        return self.archive / max(self.raw, 0.01)

    @property
    def ratio(self) -> float:
        """Our seconds over the engine's."""
        return self.ours / max(self.raw, 0.01)


@dataclass(frozen=True)
class Throughputs:
    """All samples."""

    samples: tuple[Sample, ...]
    machine: dict[str, Any] = field(default_factory=dict)

    def medians(self) -> list[Sample]:
        """Return one sample of medians for each size."""
        sizes = sorted({sample.size for sample in self.samples})
        return [_median([sample for sample in self.samples if sample.size == size]) for size in sizes]

    def ways(self) -> list[Way]:
        """Return, for each size, the way from Glance and the way to it."""
        return [
            way
            for each in self.medians()
            for way in (
                Way("load", each.size, each.loaded, each.load, each.raw_load),
                Way("snapshot", each.size, each.sent, each.snapshot, each.raw_snapshot),
            )
        ]


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(**{name: statistics.median(getattr(each, name) for each in samples) for name in asdict(samples[0])})


def measure(
    connection: Any, request: Request, sizes: Sequence[int], count: int, say: Callable[[str], None]
) -> Throughputs:
    """Send images of each size to the engine and back, ``count`` times, each beside the engine alone; leave nothing.

    Args:
        connection: an administrator's.
        request: what to boot; images are made from this one.
        sizes: MiB of random bytes, which nothing can compress.
        count: rounds.
        say: told what goes on.

    Raises:
        DockstackError: the cloud or its engine are not on this machine, or a server does not boot.
    """
    machine = describe_machine()
    samples = []
    with (
        set_up(connection, replace(request, baseline=False), say) as fixture,
        tempfile.TemporaryDirectory(dir=WORK) as at,
    ):
        if fixture.engine is None:
            raise DockstackError("The engine of the cloud is not on this machine.", fixture.engine_reason)
        for number in range(count):
            for size in sizes:
                say(f"round {number + 1} of {count}: {size} MiB")
                samples.append(_sample(connection, fixture, fixture.engine, size, Path(at)))
    return Throughputs(tuple(samples), machine)


def _sample(connection: Any, fixture: Fixture, engine: EngineBaseline, size: int, work: Path) -> Sample:
    archive = work / "image.tar"
    with ExitStack() as stack:
        stack.callback(engine.clean)  # what servers boot from has the label, too
        image, raw_snapshot = engine.time_snapshot(fixture.engine_image, size, archive)
        engine.forget(image)
        raw_load = engine.time_load(archive)
        engine.forget(image)  # what the engine has, nobody would have to load
        found = connection.image.create_image(
            NAME, filename=str(archive), disk_format="raw", container_format="docker", wait=True, allow_duplicates=True
        )
        stack.callback(connection.image.delete_image, found.id, ignore_missing=True)
        template = replace(fixture.server, image_id=found.id)
        started = time.monotonic()
        server = post(connection, template, "images-cold").id
        stack.callback(delete, connection, server)
        wait_active(connection, server)
        cold = time.monotonic() - started
        load = cold - time_server(connection, template, "images-warm").active
        engine.write(server, size)
        started = time.monotonic()
        with snapshot(connection, server, "images") as kept:
            seconds = time.monotonic() - started
        loaded, sent = _mib(archive.stat().st_size), _mib(kept.size)
        return Sample(size, load, raw_load, loaded, seconds, raw_snapshot, sent)


def _mib(size: float) -> float:
    return size / (1 << 20)


def table_of(measured: Throughputs) -> Table:
    """Build the table: a row a size and a way."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "random MiB", "archive MiB", "seconds", "MiB/s", "the engine alone, s", "MiB/s", "x raw"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for way in measured.ways():
        figures = (f"{way.ours:.2f}", f"{way.rate:.0f}", f"{way.raw:.2f}", f"{way.raw_rate:.0f}", f"{way.ratio:.2f}")
        table.add_row(way.name, f"{way.size:.0f}", f"{way.archive:.0f}", *figures)
    return table


def notes_of(measured: Throughputs) -> list[str]:
    """Say what the figures are."""
    return [
        f"medians of {len(measured.samples) // max(len(measured.medians()), 1)}",
        "load: what a boot from an image takes longer than the next one's; the engine alone: docker load",
        "snapshot: until Glance has it all; the engine alone: docker commit and docker save to a file",
    ]


def document_of(measured: Throughputs) -> dict[str, Any]:
    """Build the document for machines: every sample and the medians."""
    return asdict(measured) | {"medians": [asdict(each) for each in measured.medians()]}
