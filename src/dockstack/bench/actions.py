# SPDX-License-Identifier: Apache-2.0
"""``bench actions``: each server action's latency beside the fake driver's, interleaved."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors
from rich.table import Table

from dockstack.bench.fixture import set_up
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import PREFIX, summarise
from dockstack.bench.servers import LIMIT_SECONDS, POLL_SECONDS, delete, post, snapshot, wait_active
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.bench.fixture import Fixture, Request
    from dockstack.bench.servers import ServerTemplate

NAME = "actions"  # of the server
SERVER, FLOOR = "docker server", "fake driver (floor)"


@dataclass(frozen=True)
class Action:
    """Something that is done to a server.

    Attributes:
        begin: sends the request.
        becomes: the status that the server has when it is done.
        after: the action that it takes back, without which it makes no sense.
        no_floor: why the fake driver cannot be asked for it.
    """

    name: str
    begin: Callable[[Subject], object]
    becomes: tuple[str, ...] = ("ACTIVE",)
    after: str = ""
    no_floor: str = ""


@dataclass(frozen=True)
class Subject:
    """The server that actions are done to, and the means."""

    connection: Any
    server_id: str
    template: ServerTemplate
    larger_flavor: str


@dataclass(frozen=True)
class Latencies:
    """Seconds by action and kind of server, and why an action has none."""

    samples: dict[str, dict[str, list[float]]]
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


def _compute(method: str, *arguments: object) -> Callable[[Subject], object]:
    return lambda subject: getattr(subject.connection.compute, method)(subject.server_id, *arguments)


def _snapshot(subject: Subject) -> object:
    """Take a snapshot and wait until Glance has it all; then it is deleted, which is not timed apart."""
    with snapshot(subject.connection, subject.server_id, "snapshot") as image:
        return image


def _attach(subject: Subject) -> object:
    return subject.connection.compute.create_server_interface(subject.server_id, net_id=subject.template.network_id)


def _detach(subject: Subject) -> object:
    *_, last = subject.connection.compute.server_interfaces(subject.server_id)
    subject.connection.compute.delete_server_interface(last.port_id, subject.server_id)
    return None


# In this order each begins where the one before it ended. A pair stands on neighbouring lines.
ACTIONS = (
    Action("stop", _compute("stop_server"), ("SHUTOFF",)),
    Action("start", _compute("start_server"), after="stop"),
    Action("reboot soft", _compute("reboot_server", "SOFT")),
    Action("reboot hard", _compute("reboot_server", "HARD")),
    Action("pause", _compute("pause_server"), ("PAUSED",)),
    Action("unpause", _compute("unpause_server"), after="pause"),
    Action("suspend", _compute("suspend_server"), ("SUSPENDED",)),
    Action("resume", _compute("resume_server"), after="suspend"),
    Action("attach interface", _attach),
    Action("detach interface", _detach, after="attach interface"),
    Action("snapshot", _snapshot, no_floor="Nova's fake driver uploads nothing"),
    Action("rescue", _compute("rescue_server"), ("RESCUE",)),
    Action("unrescue", _compute("unrescue_server"), after="rescue"),
    Action(
        "resize",
        lambda subject: subject.connection.compute.resize_server(subject.server_id, subject.larger_flavor),
        ("VERIFY_RESIZE",),
    ),
    Action("revert resize", _compute("revert_server_resize"), after="resize"),
    Action(
        "rebuild",
        lambda subject: subject.connection.compute.rebuild_server(subject.server_id, image=subject.template.image_id),
    ),
    Action("shelve", _compute("shelve_server"), ("SHELVED", "SHELVED_OFFLOADED")),
    Action("unshelve", _compute("unshelve_server"), after="shelve"),
)


def measure(connection: Any, request: Request, larger_flavor: str, count: int, say: Callable[[str], None]) -> Latencies:
    """Do every action to a server of each kind, one after the other, ``count`` times; leave nothing behind.

    An action that is refused, or that ends in another state than it should, is written down with its reason; its server
    is replaced by a new one if it suffered, and the round goes on.

    Raises:
        DockstackError: the cloud does not have what is wished for, or a server does not boot.
    """
    machine = describe_machine()
    flavor = connection.compute.find_flavor(larger_flavor, ignore_missing=False).id
    found = Latencies({action.name: {SERVER: [], FLOOR: []} for action in ACTIONS}, defaultdict(dict), machine)
    with forgetting_the_shelf(connection), set_up(connection, request, say) as fixture:
        for number in range(count):
            for kind, template in _kinds(fixture).items():
                say(f"round {number + 1} of {count}: {kind}")
                _do_all(partial(_boot, connection, template, flavor), kind, found)
    return found


@contextmanager
def forgetting_the_shelf(connection: Any) -> Iterator[None]:
    """Delete the images of shelved servers afterwards: Nova does that only when a server is unshelved."""
    try:
        yield
    finally:
        for image in connection.image.images(name=f"{PREFIX}{NAME}-shelved"):
            connection.image.delete_image(image, ignore_missing=True)


def _kinds(fixture: Fixture) -> dict[str, ServerTemplate]:
    return {SERVER: fixture.server, **({FLOOR: fixture.baseline} if fixture.baseline else {})}


def _do_all(boot: Callable[[], Subject], kind: str, found: Latencies) -> None:
    subject = boot()
    passed: set[str] = set()
    for action in ACTIONS:
        if kind == FLOOR and action.no_floor:
            found.refused[action.name][kind] = action.no_floor
            continue
        if action.after and action.after not in passed:
            found.refused[action.name].setdefault(kind, f"{action.after} did not work")
            continue
        try:
            found.samples[action.name][kind].append(time_action(subject, action))
            passed.add(action.name)
        except (DockstackError, sdk_errors.SDKException) as error:
            found.refused[action.name][kind] = str(error).splitlines()[0]
            if not _is_well(subject):
                delete(subject.connection, subject.server_id)
                subject = boot()
    delete(subject.connection, subject.server_id)


def _is_well(subject: Subject) -> bool:
    """Whether a refusal left the server as it was."""
    server = subject.connection.compute.get_server(subject.server_id)
    return bool(server.status == "ACTIVE" and not server.task_state)


def _boot(connection: Any, template: ServerTemplate, flavor: str) -> Subject:
    server = post(connection, template, NAME)
    wait_active(connection, server.id)
    return Subject(connection, server.id, template, flavor)


def time_action(subject: Subject, action: Action) -> float:
    """Do one action and return the seconds from asking for it until it is done.

    Raises:
        DockstackError: the server went to ERROR, or did not get there in time.
        sdk_errors.SDKException: Nova refused.
    """
    started = time.monotonic()
    action.begin(subject)
    while True:
        server = subject.connection.compute.get_server(subject.server_id)
        if server.status in action.becomes and not server.task_state:
            return time.monotonic() - started
        if server.status == "ERROR":
            raise DockstackError((server.fault or {}).get("message", "The server went to ERROR."))
        if time.monotonic() - started > LIMIT_SECONDS:
            raise DockstackError(f"It was still {server.status} after {LIMIT_SECONDS:g} s.")
        time.sleep(POLL_SECONDS)


def table_of(measured: Latencies) -> Table:
    """Build the table: a row an action, with what we add to the floor."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("action")
    for title in ("n", f"{SERVER}: median s", "p90 s", "floor: median s", "above the floor, s"):
        table.add_column(title, justify="right")
    for name, kinds in measured.samples.items():
        ours, floor = summarise(kinds[SERVER]), summarise(kinds[FLOOR])
        if ours is None:
            table.add_row(name, "0", "refused")
            continue
        above = f"{ours.median - floor.median:+.2f}" if floor else ""
        base = f"{floor.median:.2f}" if floor else ""
        table.add_row(name, str(ours.n), f"{ours.median:.2f}", f"{ours.p90:.2f}", base, above)
    return table


def notes_of(measured: Latencies) -> list[str]:
    """Say why an action has no figures, or fewer than it should."""
    return [f"{name}, {kind}: {why}" for name, kinds in measured.refused.items() for kind, why in kinds.items()]


def document_of(measured: Latencies) -> dict[str, Any]:
    """Build the document for machines: every sample, the summaries, the refusals, the machine."""
    summaries = {
        name: {kind: asdict(summary) for kind, values in kinds.items() if (summary := summarise(values))}
        for name, kinds in measured.samples.items()
    }
    rounded = {
        name: {kind: [round(value, 4) for value in values] for kind, values in kinds.items()}
        for name, kinds in measured.samples.items()
    }
    return {"machine": measured.machine, "samples": rounded, "summary": summaries, "refused": measured.refused}
