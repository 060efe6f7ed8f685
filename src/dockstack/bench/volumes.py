# SPDX-License-Identifier: Apache-2.0
"""``bench volumes``: what attaching costs beside the fake driver, and what a server's device does beside bare ones.

The bare ones are a loop device as the host makes it for a volume, and a file of the host, both on the file system that
the volumes are on. One program, the machine's own dd, writes to all three without the page cache: large pieces with one
sync at the end, and small ones with a sync each.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from openstack.exceptions import SDKException
from rich.table import Table

from dockstack.bench.fixture import set_up
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import PREFIX, summarise, verdict
from dockstack.bench.servers import LIMIT_SECONDS, POLL_SECONDS, delete, post, wait_active
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.bench.engine_baseline import EngineBaseline
    from dockstack.bench.fixture import Fixture, Request
    from dockstack.bench.servers import ServerTemplate

NAME = "volumes"
SERVER, FLOOR = "docker server", "fake driver (floor)"
INSIDE, LOOP, FILE = "in the server", "bare loop device", "file of the host"
ATTACH, DETACH = "attach", "detach"
GOAL_ATTACH = 1.5  # seconds
GOAL_SHARE = 0.95  # of the bare device's
SYNCS = 200  # small writes of a sample
_DD = "dd"
_PLACE = Path("/usr/local/sbin/dockstack-bench-dd")  # in the server
_SECONDS = re.compile(r"copied, ([0-9.e-]+) s")


@dataclass(frozen=True)
class Latencies:
    """Seconds from asking until Cinder says that it is so, by action and kind of server."""

    samples: dict[str, dict[str, list[float]]]

    def median(self, action: str, kind: str) -> float | None:
        """Return the median of one kind; None if there are none."""
        found = self.samples[action][kind]
        return float(statistics.median(found)) if found else None


@dataclass(frozen=True)
class Write:
    """One sample of one target.

    Attributes:
        rate: of large pieces, MiB a second.
        sync: of a small one, milliseconds.
    """

    rate: float
    sync: float


@dataclass(frozen=True)
class Measured:
    """All that one run measured.

    Attributes:
        latencies: of attaching and detaching.
        writes: by target.
        size: of what is written in large pieces, MiB.
        floor_reason: why there is no fake driver.
    """

    latencies: Latencies
    writes: dict[str, list[Write]]
    size: int
    floor_reason: str = ""
    machine: dict[str, Any] = field(default_factory=dict)

    def rate(self, target: str) -> float:
        """Return the median of MiB a second."""
        return float(statistics.median(each.rate for each in self.writes[target]))

    def sync(self, target: str) -> float:
        """Return the median of milliseconds a sync."""
        return float(statistics.median(each.sync for each in self.writes[target]))

    def share(self, other: str) -> tuple[float, float]:
        """Return what the server's device reaches of another target: of its rate, and of its syncs a second.

        It is the median of rounds: those of one round met the same machine.
        """
        pairs = list(zip(self.writes[INSIDE], self.writes[other], strict=True))
        return (
            float(statistics.median(ours.rate / bare.rate for ours, bare in pairs)),
            float(statistics.median(bare.sync / ours.sync for ours, bare in pairs)),
        )


def measure(connection: Any, request: Request, size: int, count: int, say: Callable[[str], None]) -> Measured:
    """Attach and detach a volume, and write to it, ``count`` times each; leave nothing behind.

    Args:
        connection: an administrator's.
        request: what to boot.
        size: of what is written in large pieces, MiB.
        count: rounds.
        say: told what goes on.

    Raises:
        DockstackError: the cloud has no volumes, or not on this machine, or a server does not boot.
    """
    machine = describe_machine()
    if connection.session.get_endpoint(service_type="block-storage") is None:
        raise DockstackError("The cloud has no volumes.", "Make them: `dockstack up --set volumes.enable=true`.")
    with set_up(connection, request, say) as fixture, _volume(connection, -(-2 * size // 1024)) as volume:
        if fixture.engine is None:
            raise DockstackError("The engine of the cloud is not on this machine.", fixture.engine_reason)
        latencies = _time_attachments(connection, fixture, volume, count, say)
        with _booted(connection, fixture.server) as server:
            _attach(connection, server, volume)
            with _then(lambda: _detach(connection, server, volume)):
                target = _Target(fixture.engine, server, size)
                writes = target.compare(count, say)
    return Measured(latencies, writes, size, fixture.baseline_reason, machine)


@contextmanager
def _volume(connection: Any, gigabytes: int) -> Iterator[str]:
    storage = connection.block_storage
    for old in storage.volumes(name=PREFIX + NAME):  # of a killed run
        storage.delete_volume(old.id)
    volume = storage.create_volume(name=PREFIX + NAME, size=gigabytes)
    with _then(lambda: storage.delete_volume(volume.id, ignore_missing=True)):
        _await(connection, volume.id, "available")
        yield str(volume.id)


@contextmanager
def _booted(connection: Any, template: ServerTemplate) -> Iterator[str]:
    server = post(connection, template, NAME).id
    with _then(lambda: delete(connection, server)):
        wait_active(connection, server)
        yield str(server)


def _time_attachments(
    connection: Any, fixture: Fixture, volume: str, count: int, say: Callable[[str], None]
) -> Latencies:
    kinds = {SERVER: fixture.server, **({FLOOR: fixture.baseline} if fixture.baseline else {})}
    found = Latencies({action: {SERVER: [], FLOOR: []} for action in (ATTACH, DETACH)})
    for kind, template in kinds.items():
        with _booted(connection, template) as server:
            for number in range(count + 1):
                say(f"attaching, {kind}: {number} of {count}")
                taken = _attach(connection, server, volume), _detach(connection, server, volume)
                for action, seconds in zip((ATTACH, DETACH), taken, strict=True) if number else ():  # not the first
                    found.samples[action][kind].append(seconds)
    return found


def _attach(connection: Any, server: str, volume: str) -> float:
    started = time.monotonic()
    connection.compute.create_volume_attachment(server, volume_id=volume)
    _await(connection, volume, "in-use")
    return time.monotonic() - started


def _detach(connection: Any, server: str, volume: str) -> float:
    started = time.monotonic()
    connection.compute.delete_volume_attachment(server, volume)
    _await(connection, volume, "available")
    return time.monotonic() - started


def _await(connection: Any, volume: str, status: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        found = connection.block_storage.get_volume(volume).status
        if found == status:
            return
        if found.startswith("error") or time.monotonic() > deadline:
            raise DockstackError(
                f"The benchmark's volume was to be {status}, and is {found}.",
                "See cinder-volume's and nova-compute's logs; `dockstack verify --only volume` tells more.",
            )
        time.sleep(POLL_SECONDS)


class _Target:
    """A server's device, and what it is compared with.

    Args:
        engine: that runs the server.
        server: which has one volume.
        size: of what is written in large pieces, MiB.
    """

    def __init__(self, engine: EngineBaseline, server: str, size: int) -> None:
        self._engine, self._server, self._size = engine, server, size
        program = shutil.which(_DD)
        if program is None:
            raise DockstackError(f"{_DD} is not installed.", "apt install coreutils")
        self._program = program
        for library in _libraries(program):
            engine.put(server, library, library)
        engine.put(server, Path(program), _PLACE)

    def compare(self, count: int, say: Callable[[str], None]) -> dict[str, list[Write]]:
        """Write to each in turn; the first round, which has the files take their room, does not count."""
        number = self._engine.execute(self._server, ["cat", "/sys/class/block/vdb/dev"]).strip()
        volume = Path(Path(f"/sys/dev/block/{number}/loop/backing_file").read_text().rstrip("\n"))
        found: dict[str, list[Write]] = {INSIDE: [], LOOP: [], FILE: []}
        with _files(volume.parent, self._size) as (device, file):
            for turn in range(count + 1):
                say(f"writing {self._size} MiB and {SYNCS} syncs: {turn} of {count}")
                for name, path in ((LOOP, device), (INSIDE, "/dev/vdb"), (FILE, str(file))):
                    sample = self._write(path, inside=name == INSIDE)
                    if turn:
                        found[name].append(sample)
        return found

    def _write(self, path: str, *, inside: bool) -> Write:
        large = self._run([f"of={path}", "bs=1M", f"count={self._size}", "oflag=direct", "conv=fsync,notrunc"], inside)
        small = self._run([f"of={path}", "bs=4k", f"count={SYNCS}", "oflag=direct,dsync", "conv=notrunc"], inside)
        return Write(self._size / large, 1000 * small / SYNCS)

    def _run(self, arguments: list[str], inside: bool) -> float:
        """Return the seconds that dd itself has measured: starting it in a container takes longer than on the host."""
        line = ["if=/dev/zero", *arguments]
        if inside:
            said = self._engine.execute(self._server, [str(_PLACE), *line])
        else:
            said = subprocess.run(
                [self._program, *line], check=True, capture_output=True, text=True, env={"LC_ALL": "C"}
            ).stderr
        found = _SECONDS.search(said)
        if found is None:
            raise DockstackError(f"{_DD} does not say how long it took.", "Its output follows.", said)
        return float(found[1])


def _libraries(program: str) -> list[Path]:
    said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+)", said)]


@contextmanager
def _files(directory: Path, size: int) -> Iterator[tuple[str, Path]]:
    """Have a loop device over a file beside the volumes, as a volume's own is, and another file; MiB.

    The directory is Cinder's and we are root: the files have no names there, so that none can be a link to somewhere
    else, and a killed run leaves none.
    """
    with tempfile.TemporaryFile(dir=directory) as below, tempfile.TemporaryFile(dir=directory) as bare:
        for file in (below, bare):
            file.truncate(size << 20)
        with _loop_device(_path(below)) as device:
            yield device, _path(bare)


def _path(file: IO[bytes]) -> Path:
    """Return by which name programs that we start find a file that has none."""
    return Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")


@contextmanager
def _loop_device(file: Path) -> Iterator[str]:
    """Have a loop device over a file, until we close it or are killed: one that is detached while in use ends then."""
    made = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=on", str(file)], check=True, capture_output=True, text=True
    )
    device = made.stdout.strip()
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        subprocess.run(["losetup", "--detach", device], check=True)
        yield device
    finally:
        os.close(descriptor)


@contextmanager
def _then(undo: Callable[[], object]) -> Iterator[None]:
    """Run the body, and then what takes it back, whose failure is not told in place of the body's."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except (DockstackError, SDKException) as second:
            error.add_note(f"Nor could it be taken back: {second}")
        raise
    undo()


def table_of(measured: Measured) -> Table:
    """Build the table: a row an action, then a row a target."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "n", "median", "p90", "beside it"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for action, kinds in measured.latencies.samples.items():
        ours, floor = summarise(kinds[SERVER]), summarise(kinds[FLOOR])
        if ours:
            base = f"floor {floor.median:.2f} s" if floor else ""
            table.add_row(action, str(ours.n), f"{ours.median:.2f} s", f"{ours.p90:.2f} s", base)
    for target, writes in measured.writes.items():
        figures = (f"{measured.rate(target):.0f} MiB/s", "", f"a sync {measured.sync(target):.2f} ms")
        table.add_row(target, str(len(writes)), *figures)
    return table


def notes_of(measured: Measured) -> list[str]:
    """Say what the figures are, and whether the goals are met."""
    attach = measured.latencies.median(ATTACH, SERVER) or 0.0
    rate, syncs = measured.share(LOOP)
    of_file = measured.share(FILE)
    notes = [
        f"goal {verdict(met=attach < GOAL_ATTACH)}: attached after {attach:.2f} s, less than {GOAL_ATTACH} is wanted",
        f"goal {verdict(met=rate >= GOAL_SHARE)}: {rate:.2f} x the bare device's rate, {GOAL_SHARE} is wanted",
        f"goal {verdict(met=syncs >= GOAL_SHARE)}: {syncs:.2f} x the bare device's syncs, {GOAL_SHARE} is wanted",
        f"beside a file of the host: {of_file[0]:.2f} x its rate, {of_file[1]:.2f} x its syncs",
    ]
    return [*notes, *([f"no fake driver: {measured.floor_reason}"] if measured.floor_reason else [])]


def document_of(measured: Measured) -> dict[str, Any]:
    """Build the document for machines: every sample, the shares and the notes."""
    shares = {name: [round(each, 3) for each in measured.share(name)] for name in (LOOP, FILE)}
    return asdict(measured) | {"share": shares, "notes": notes_of(measured)}
