# SPDX-License-Identifier: Apache-2.0
"""``bench registry``: how fast a blob goes into the cloud's registry and out of it, beside the distribution's own.

Both are on one disk and one machine, and one client, of ours, sends and reads the same bytes at both, as docker does:
an upload is begun, a body of unknown length comes, the digest ends it. Both have it on the disk when they say so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import psutil
import requests
from rich.table import Table

from dockstack.bench.machine import describe_machine
from dockstack.bench.model import PREFIX, verdict
from dockstack.errors import DockstackError
from dockstack.oci.distribution.client import Account
from dockstack.oci.distribution.protocol import SERVICE, TOKEN_USER, scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = "docker-registry"
GOAL_RATE = 0.9  # of that program's
GOAL_GROWTH = 64  # MiB that the registry may take more while it works, whatever the size of a blob
WORK = Path("/var/lib/dockstack")  # on the disk on which the cloud's registry has its blobs
_CHUNK = 1 << 20
_SECONDS = 600
_OFTEN = 0.1  # seconds between two looks at a process
_CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


@dataclass(frozen=True)
class Registry:
    """A registry that is measured.

    Attributes:
        url: its address.
        repository: where blobs go there.
        pid: its process.
        authority: whom to trust, as requests has it.
        token: returns what it wants as Authorization, anew for each blob.
    """

    url: str
    repository: str
    pid: int
    authority: str | bool = True
    token: Callable[[], str] = str


@dataclass(frozen=True)
class Sample:
    """One blob at both, in seconds."""

    push: float
    pull: float
    raw_push: float
    raw_pull: float


@dataclass(frozen=True)
class Transfers:
    """All samples.

    Attributes:
        size: of a blob, MiB.
        growth: how much more memory than before the cloud's registry had at most, MiB.
        raw_growth: the same of the distribution's.
    """

    size: int
    samples: tuple[Sample, ...]
    growth: float
    raw_growth: float
    machine: dict[str, Any] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Return the median of MiB a second of one of a sample's parts."""
        return self.size / float(statistics.median(getattr(sample, name) for sample in self.samples))

    def share(self, name: str) -> float:
        """Return the rate of push or pull as a part of the distribution's."""
        return self.rate(name) / self.rate(f"raw_{name}")


def measure(connection: Any, size: int, count: int, say: Callable[[str], None]) -> Transfers:
    """Measure the cloud's registry on this machine, beside one that is started for it.

    Args:
        connection: to the cloud.
        size: of a blob, MiB.
        count: rounds.
        say: told what goes on.

    Raises:
        DockstackError: there is no registry in the cloud or on this machine, or the distribution's is not installed.
    """
    account = Account.of(connection.session)
    if account is None:
        raise DockstackError("The cloud has no registry.", "Make one: `dockstack up --set registry.enable=true`.")
    ours = _of_cloud(account, f"{connection.current_project.name.lower()}/{PREFIX}registry")
    with installed(WORK) as other:
        return compare(ours, other, size, count, say)


def compare(ours: Registry, other: Registry, size: int, count: int, say: Callable[[str], None]) -> Transfers:
    """Measure two registries in turn, ``count`` times."""
    machine = describe_machine()
    samples = []
    with _watching(ours.pid) as growth, _watching(other.pid) as raw_growth:
        for number in range(count):
            say(f"round {number + 1} of {count}: {size} MiB")
            blob = Blob(os.urandom(_CHUNK), size)
            raw, own = (_transfer(registry, blob) for registry in (other, ours))
            samples.append(Sample(*own, *raw))
    return Transfers(size, tuple(samples), growth[0], raw_growth[0], machine)


class Blob:
    """Bytes that no two pieces of repeat and nothing can compress, without their size in memory."""

    def __init__(self, seed: bytes, size: int) -> None:
        """Know its digest before anything is timed."""
        self._seed, self._size = seed, size
        state = hashlib.sha256()
        for chunk in self.chunks():
            state.update(chunk)
        self.digest = f"sha256:{state.hexdigest()}"

    def chunks(self) -> Iterator[bytes]:
        """Return its pieces."""
        for number in range(self._size):
            yield number.to_bytes(8, "big") + self._seed[8:]


def _transfer(registry: Registry, blob: Blob) -> tuple[float, float]:
    """Push a blob, pull it, and remove it; return the seconds of the first two."""
    base = f"{registry.url.rstrip('/')}/v2/{registry.repository}/blobs"
    with requests.Session() as session:
        session.trust_env, session.verify = False, registry.authority
        if token := registry.token():
            session.headers["Authorization"] = token
        started = time.monotonic()
        place = _ask(session, "POST", f"{base}/uploads/").headers["Location"]
        sent = _ask(session, "PATCH", urljoin(base, place), data=blob.chunks()).headers["Location"]
        _ask(session, "PUT", urljoin(base, sent), params={"digest": blob.digest})
        pushed = time.monotonic()
        with _ask(session, "GET", f"{base}/{blob.digest}", stream=True) as answer:
            for _ in answer.iter_content(_CHUNK):
                pass
        pulled = time.monotonic()
        _ask(session, "DELETE", f"{base}/{blob.digest}")
    return pushed - started, pulled - pushed


def _ask(session: requests.Session, method: str, url: str, **more: Any) -> requests.Response:
    answer = session.request(method, url, timeout=_SECONDS, **more)
    if not answer.ok:
        raise DockstackError(f"{method} {url} is answered with {answer.status_code}.", "", answer.text[:1000])
    return answer


def _of_cloud(account: Account, repository: str) -> Registry:
    def token() -> str:
        asked = {"service": SERVICE, "scope": scope(repository, "pull", "push", "delete")}
        login = (TOKEN_USER, account.token)
        with requests.Session() as session:
            session.trust_env, session.verify = False, account.authority
            answer = session.get(f"{account.url.rstrip('/')}/token", params=asked, auth=login, timeout=_SECONDS)
        answer.raise_for_status()
        return f"Bearer {answer.json()['token']}"

    for process in psutil.process_iter(["cmdline"]):
        if "dockstack.registry" in (process.info["cmdline"] or ()):
            return Registry(account.url, repository, process.pid, account.authority, token)
    raise DockstackError("The cloud's registry does not run on this machine.", "Run on the cloud's machine, as root.")


@contextmanager
def installed(work: Path) -> Iterator[Registry]:
    """Run the distribution's registry, with its blobs below a directory, and leave nothing of it.

    Raises:
        DockstackError: it is not installed, or does not start.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise DockstackError(f"{PROGRAM} is not installed: there is nothing to compare with.", f"apt install {PROGRAM}")
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}registry-", dir=work) as directory:
        port = _free_port()
        configuration = Path(directory, "config.yml")
        configuration.write_text(_CONFIGURATION.format(directory=directory, port=port))
        command = [program, "serve", str(configuration)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        with subprocess.Popen(command, env=environment, **quiet) as process:  # type: ignore[call-overload]
            try:
                registry = Registry(f"http://127.0.0.1:{port}", f"{PREFIX}registry", process.pid)
                _await(registry, process)
                yield registry
            finally:
                process.kill()


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _await(registry: Registry, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(requests.ConnectionError), requests.Session() as session:
            session.trust_env = False
            if session.get(f"{registry.url}/v2/", timeout=_SECONDS).ok:
                return
        time.sleep(_OFTEN)
    raise DockstackError(f"{PROGRAM} does not start.", f"Look at what it says: {PROGRAM} serve FILE.")


@contextmanager
def _watching(pid: int) -> Iterator[list[float]]:
    """Watch how much more memory of its own a process takes than at the start: the one figure, in MiB."""
    process = psutil.Process(pid)
    before = process.memory_full_info().uss
    most = [0.0]
    over = threading.Event()

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while not over.wait(_OFTEN):
                most[0] = max(most[0], (process.memory_full_info().uss - before) / (1 << 20))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def table_of(measured: Transfers) -> Table:
    """Build the table: a row a way."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "MiB/s", f"{PROGRAM}, MiB/s", f"x {PROGRAM}"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for name in ("push", "pull"):
        figures = (measured.rate(name), measured.rate(f"raw_{name}"))
        table.add_row(name, *(f"{rate:.0f}" for rate in figures), f"{measured.share(name):.2f}")
    return table


def notes_of(measured: Transfers) -> list[str]:
    """Say what the figures are, and whether the goals are met."""
    notes = [f"a blob of {measured.size} MiB, medians of {len(measured.samples)}"]
    notes += [
        f"goal {verdict(met=measured.share(name) >= GOAL_RATE)}: {name} at {measured.share(name):.2f} x {PROGRAM}, "
        f"at least {GOAL_RATE} is wanted"
        for name in ("push", "pull")
    ]
    flat = verdict(met=measured.growth <= GOAL_GROWTH)
    grown = f"{measured.growth:.0f} MiB more at most while it works ({PROGRAM}: {measured.raw_growth:.0f})"
    return [*notes, f"goal {flat}: the registry takes {grown}, at most {GOAL_GROWTH} are wanted"]


def document_of(measured: Transfers) -> dict[str, Any]:
    """Build the document for machines: every sample, the shares and the notes."""
    shares = {name: round(measured.share(name), 3) for name in ("push", "pull")}
    return asdict(measured) | {"share": shares, "notes": notes_of(measured)}
