# SPDX-License-Identifier: Apache-2.0
"""Who ends at once is told so; whatever else happens to a server is told to Nova as it was."""

from __future__ import annotations

import queue
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import sample_server
from dockstack.compute.consoles import log
from dockstack.compute.engine import Container, Event, EventKind
from dockstack.compute.flows import endings
from dockstack.compute.host.host import Busy
from dockstack.compute.host.reboots import Reboots
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

EVENT = Event(sample_server.SERVER.uuid, EventKind.STOPPED, 1, "id")
ENDED = Container(
    *("id", "nova-x", PowerState.SHUTDOWN),
    exit_code=1,
    command=("/x",),
    started_at="2026-01-01T00:00:00Z",
    finished_at="2026-01-01T00:00:01Z",
)


def host(found: Container | None, written: bytes = b"") -> Any:
    engine = SimpleNamespace(logs=lambda _name, _most: written)
    looks = {"find_own": lambda _name: found, "container": lambda _uuid: found}
    return SimpleNamespace(**looks, engine=engine, busy=Busy(), reboots=Reboots())


def told(found: Container | None, event: Event = EVENT, *, fails: bool = True, later: Container | None = None) -> str:
    """What Nova gets to know first: an event, or why its server failed; later, what it finds when it is done."""
    said: queue.Queue[str] = queue.Queue()

    def fail(_event: Event, reason: str, still_ended: Callable[[], bool]) -> bool:
        place.find_own = lambda _name: found if later is None else later
        happens = fails and still_ended()
        if happens:
            said.put(reason)
        return happens

    place = host(found)
    endings.tell(place, event, lambda told: said.put(told.kind), fail, lambda _uuid: None)
    first = said.get(timeout=30)
    assert said.empty()
    return first


def test_who_ends_at_once_gets_a_fault() -> None:
    assert told(ENDED).startswith("The first process (/x) ended after 1.0 s with status 1.")
    assert told(ENDED, fails=False) == EventKind.STOPPED


@pytest.mark.parametrize(
    ("found", "event"),
    [
        (ENDED, EVENT._replace(kind=EventKind.STARTED)),
        (ENDED, EVENT._replace(container_id="an earlier one")),
        (None, EVENT),
        (Container("id", "nova-x", PowerState.RUNNING, pid=7), EVENT),
    ],
)
def test_whatever_else_happens_is_told_as_it_was(found, event) -> None:
    assert told(found, event) == event.kind


@pytest.mark.parametrize(
    "later",
    [
        replace(ENDED, state=PowerState.RUNNING, pid=7, started_at="2026-01-01T00:00:05Z"),  # its user has rebooted it
        replace(ENDED, id="of its rebuild"),
    ],
)
def test_a_server_that_its_user_has_started_again_meanwhile_gets_no_fault(later) -> None:
    assert told(ENDED, later=later) == EventKind.STOPPED


def test_a_host_that_cannot_look_tells_what_it_knows() -> None:
    def refuse(_name: str) -> None:
        raise DockstackError("The engine did not answer.")

    said: list[Event] = []
    endings.tell(SimpleNamespace(find_own=refuse), EVENT, said.append, lambda *_: True, lambda _: None)
    assert said == [EVENT]


REBOOTED = replace(ENDED, exit_code=129, host_config={"CapAdd": ["CAP_SYS_BOOT"]})


@pytest.mark.parametrize(
    ("container", "starts"),
    [(REBOOTED, True), (replace(REBOOTED, host_config={}), False), (replace(REBOOTED, exit_code=130), False)],
)
def test_who_was_rebooted_from_inside_is_started_again_and_nova_hears_nothing(monkeypatch, container, starts) -> None:
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(endings.ending, "rest", lambda _found, _before: 0)
    monkeypatch.setattr(endings.lifecycle, "start", lambda _host, server: said.put(f"started {server}"))
    asked = iter([None, "server"])  # Nova is in the midst of something at first
    place = host(container)
    endings.tell(place, EVENT, lambda told: said.put(told.kind), lambda *_: False, lambda _uuid: next(asked))
    assert said.get(timeout=30) == ("started server" if starts else EventKind.STOPPED)


def test_a_task_of_novas_is_waited_for_however_long_it_takes(monkeypatch) -> None:
    """A snapshot's upload takes longer than Nova needs to write down what it wants."""
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(endings.ending, "rest", lambda _found, _before: 0)
    monkeypatch.setattr(endings.lifecycle, "start", lambda _host, server: said.put(f"started {server}"))
    now = iter(range(0, 10**6, endings._PATIENCE // 3))  # the task takes ten times the patience
    clock = SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _seconds: None)
    monkeypatch.setattr(endings, "time", clock)
    answers = iter([endings.TaskUnderWay()] * 20 + [None, "server"])

    def read_wanted(_uuid: str) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    place = host(REBOOTED)
    endings.tell(place, EVENT, lambda told: said.put(told.kind), lambda *_: False, read_wanted)
    assert said.get(timeout=30) == "started server"


def test_a_task_that_never_ends_is_not_waited_for_for_ever(monkeypatch) -> None:
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(endings.ending, "rest", lambda _found, _before: 0)
    now = iter(range(0, 10**6, 600))
    monkeypatch.setattr(endings, "time", SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _seconds: None))

    def read_wanted(_uuid: str) -> Any:
        raise endings.TaskUnderWay

    place = host(REBOOTED)
    endings.tell(place, EVENT, lambda told: said.put(told.kind), lambda *_: False, read_wanted)
    assert said.get(timeout=30) == EventKind.STOPPED


@pytest.mark.parametrize("stopped", [False, True])
def test_who_is_about_to_be_started_again_runs_unless_it_is_stopped_meanwhile(monkeypatch, stopped) -> None:
    """Nova's own look at power states would stop a server that it finds off, or write down that it is to be off."""
    seen: list[PowerState] = []
    place = host(REBOOTED)
    place.audit = SimpleNamespace(get_state=lambda _uuid, **_: place.find_own("").state)
    answers = iter([endings.TaskUnderWay()])

    def look() -> None:
        seen.append(endings.read_state(place, EVENT.server_uuid, fresh=True))

    def read_wanted(_uuid: str) -> Any:
        look()
        for answer in answers:
            if stopped:
                place.reboots.call_off(EVENT.server_uuid)  # as lifecycle.stop does
                look()
            raise answer
        return "server"

    monkeypatch.setattr(endings.ending, "rest", lambda _found, _before: 0)
    monkeypatch.setattr(endings, "_TASK_ROUND", 0)
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(endings.lifecycle, "start", lambda _host, _server: (look(), said.put("started")))
    endings.tell(place, EVENT, lambda told: said.put(told.kind), lambda *_: False, read_wanted)
    assert said.get(timeout=30) == (EventKind.STOPPED if stopped else "started")
    runs, off = PowerState.RUNNING, PowerState.SHUTDOWN
    assert seen == ([runs, off] if stopped else [runs, runs, runs])


def test_nova_hears_of_a_reboot_whose_server_it_does_not_want(monkeypatch) -> None:
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(endings.ending, "rest", lambda _found, _before: 0)
    monkeypatch.setattr(endings, "_PATIENCE", 0)
    place = host(REBOOTED)
    endings.tell(place, EVENT, lambda told: said.put(told.kind), lambda *_: False, lambda _uuid: None)
    assert said.get(timeout=30) == EventKind.STOPPED


@pytest.mark.parametrize("written", [b"", b"last words", b"last words\n", b"x" * log.MAX_BYTES])
def test_the_console_log_ends_with_the_end(written) -> None:
    found = endings.read_log(host(ENDED, written), sample_server.SERVER)
    assert len(found) <= log.MAX_BYTES
    assert found.splitlines()[-1].startswith(b"[dockstack] The first process (/x) ended after 1.0 s")
    assert not written or found.startswith(written[:4])


def test_the_console_log_of_who_runs_is_what_was_written() -> None:
    runs = Container("id", "nova-x", PowerState.RUNNING, pid=7)
    assert endings.read_log(host(runs, b"words"), sample_server.SERVER) == b"words"


def test_who_reboots_again_and_again_rests_longer_each_time_and_its_owner_is_told(monkeypatch) -> None:
    rests: list[float] = []
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(endings, "time", SimpleNamespace(monotonic=lambda: 0, sleep=rests.append))
    monkeypatch.setattr(endings.lifecycle, "start", lambda *_: said.put("started"))
    long = replace(REBOOTED, finished_at="2026-01-01T00:00:11Z")
    place = host(REBOOTED)

    def reboot(container: Container, times: int) -> bytes:
        place.find_own = place.container = lambda _name: container
        for _ in range(times):
            endings.tell(place, EVENT, lambda told: said.put(told.kind), lambda *_: False, lambda _uuid: "server")
            assert said.get(timeout=30) == "started"
        return endings.read_log(place, sample_server.SERVER)

    assert b"again and again" not in reboot(REBOOTED, 4)
    assert b"again and again (5 times" in reboot(REBOOTED, 1)
    runs = replace(REBOOTED, state=PowerState.RUNNING, pid=7, exit_code=None)
    place.container = lambda _uuid: runs  # since long ago
    assert endings.read_log(place, sample_server.SERVER) == b""
    reboot(REBOOTED, 4)
    assert rests == [seconds - 1 for seconds in (5, 10, 20, 40, 80, 160, 300, 300, 300)]
    assert b"again and again" not in reboot(long, 1)
    reboot(REBOOTED, 1)
    assert rests[-2:] == [0, 4]
