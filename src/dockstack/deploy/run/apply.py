# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.deploy.run.apply``: run all tasks of this machine, and report in JSON lines.

pyinfra runs the operations of one host in sequence. Here independent stages of a node run side by side, each in a child
process that is forked after all imports. A run may be killed at any moment: the next one completes the work.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import selectors
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.node import processes
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.run import teardown
from dockstack.deploy.run.events import Event, Kind, parse
from dockstack.deploy.run.plan import Task, node_stages, tasks
from dockstack.deploy.supervision.machine import Machine
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dockstack.deploy.wanted.inventory import Node

PR_SET_PDEATHSIG = 1
INTERRUPTED = 130
PACKAGE_TOOLS = {"apt-get", "apt", "dpkg", "dpkg-deb", "dnf", "rpm"}
LEFTOVER_GRACE = 5.0
CHILD_GRACE = 10.0


@dataclass
class Child:
    """A running task."""

    task: Task
    pid: int
    pipe: int
    began: float
    rest: bytes = b""
    ended: Event | None = None


@dataclass
class Runner:
    """Runs tasks as soon as those that they wait for are done and there is a slot."""

    waiting: dict[str, Task]
    slots: int
    emit: Callable[[Event], None]
    secrets: Secrets = field(default_factory=lambda: Secrets(paths.SECRETS_FILE))
    running: dict[int, Child] = field(default_factory=dict)  # by pipe
    done: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    services: dict[str, set[str]] = field(default_factory=dict)  # by node: all that a task looked after
    began: float = field(default_factory=time.monotonic)
    changes: int = 0
    interrupted: bool = False

    def run(self) -> bool:
        """Run all tasks; after a failure, nothing new begins, and tasks that run may finish."""
        with selectors.DefaultSelector() as selector:
            while not self.interrupted:
                if not self.failed:
                    self._start_ready(selector)
                if not self.running:
                    break
                for key, _ in selector.select(timeout=1.0):
                    child = self.running[int(key.fd)]
                    if not self._read(child):
                        selector.unregister(key.fd)
                        self._finish(child)
        if self.interrupted:
            self._end_children()
        return not self.failed and not self.waiting and not self.interrupted

    def interrupt(self, *_: object) -> None:
        """Stop at the next turn (a signal handler)."""
        self.interrupted = True

    def _start_ready(self, selector: selectors.BaseSelector) -> None:
        for key, task in list(self.waiting.items()):
            used = sum(child.task.stage.weight for child in self.running.values())
            if task.after <= self.done and (used + task.stage.weight <= self.slots or not self.running):
                del self.waiting[key]
                child = _fork(task, self.secrets)
                self.running[child.pipe] = child
                selector.register(child.pipe, selectors.EVENT_READ)
                self.emit(self._start_event(child))

    def _start_event(self, child: Child) -> Event:
        stage, at = child.task.stage, round(child.began - self.began, 2)
        return Event(Kind.START, child.task.key, stage.title, stage.phase, at=at, after=tuple(sorted(child.task.after)))

    def _read(self, child: Child) -> bool:
        """Forward what a child tells; False at its end."""
        data = os.read(child.pipe, 65536)
        *lines, child.rest = (child.rest + data).split(b"\n")
        for line in lines:
            event = _event(line)
            if event.kind is Kind.SAY:
                self.emit(event)
            else:
                child.ended = event
        return bool(data)

    def _finish(self, child: Child) -> None:
        del self.running[child.pipe]
        os.close(child.pipe)
        os.waitpid(child.pid, 0)
        seconds = round(time.monotonic() - child.began, 2)
        stage, key = child.task.stage, child.task.key
        ended = child.ended
        if ended is not None and ended.kind is Kind.DONE:
            self.done.add(key)
            self.changes += ended.changes
            self.services.setdefault(child.task.node.name, set()).update(ended.services)
            self.emit(replace(ended, title=stage.title, phase=stage.phase, seconds=seconds))
            return
        self.failed.append(key)
        text = ended.text if ended else "The process of this stage was killed."
        cure = ended.cure if ended else "Was memory short? Run `dockstack up` again: it goes on from here."
        details = ended.details if ended else ""
        failed = Event(Kind.FAILED, key, stage.title, stage.phase, text, cure, details, seconds=seconds, ok=False)
        self.emit(failed)

    def _end_children(self) -> None:
        for child in self.running.values():
            _signal_group(child.pid, signal.SIGTERM)
        everything = processes.snapshot()
        left = {pid for child in self.running.values() for pid in processes.tree(child.pid, everything)}
        processes.end(left, CHILD_GRACE)
        for child in self.running.values():
            os.waitpid(child.pid, 0)


def _event(line: bytes) -> Event:
    return parse(line.decode(errors="replace")) or Event(Kind.SAY, text=line.decode(errors="replace"))


def _fork(task: Task, secrets: Secrets) -> Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setsid()
        _die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os._exit(_work(task, writing, secrets))
    os.close(writing)
    return Child(task, pid, reading, time.monotonic())


def _work(task: Task, pipe: int, secrets: Secrets) -> int:
    """Do one task in its own process and report its end; this is the main function of that process."""

    def tell(event: Event) -> None:
        os.write(pipe, event.line().encode() + b"\n")

    try:
        machine = Machine(
            task.node,
            secrets,
            Manifest(manifest_directory(task.node.name, task.node.connector)),
            connect(task.node),
            say=lambda text: tell(Event(Kind.SAY, task.key, text=secrets.redact(text))),
        )
        task.stage.apply(machine)
    except DockstackError as error:
        tell(Event(Kind.FAILED, task.key, text=error.brief, cure=error.resolution, details=error.details, ok=False))
        return 1
    except Exception as error:  # noqa: BLE001 - the top of a process: the parent must hear of it
        details = secrets.redact("".join(traceback.format_exc(limit=-4)))
        cure = "This is a fault in dockstack; the lines above belong into a report."
        tell(Event(Kind.FAILED, task.key, text=f"{type(error).__name__}: {error}", cure=cure, details=details))
        return 1
    services, starts = tuple(machine.services), tuple(machine.starts)
    tell(Event(Kind.DONE, task.key, changes=machine.changes, services=services, starts=starts))
    return 0


def manifest_directory(node: str, connector: str) -> str:
    """Return where the manifest of a node is kept: that of this machine beside its records."""
    return paths.STATE_DIRECTORY if connector == "@local" else f"{paths.STATE_DIRECTORY}/nodes/{node}"


def retire_unwanted(node: Node, secrets: Secrets, services: Mapping[str, Collection[str]]) -> int:
    """Remove services of this machine that no task looked after, since the attributes ask for less than before."""
    wanted = services.get(node.name, ())
    if {service.name for service in Records.here().services()} <= {*wanted, *teardown.ENGINE_SERVICES}:
        return 0
    machine = Machine(node, secrets, Manifest(manifest_directory(node.name, node.connector)), connect(node))
    return len(teardown.retire(machine, wanted))


def end_leftovers() -> None:
    """End commands that a killed run left behind; package tools are let finish, since they have locks of their own."""
    everything = processes.snapshot()
    spared = {os.getpid()}
    current = everything.get(os.getpid())
    while current is not None:
        spared.add(current.pid)
        current = everything.get(current.parent)
    spared |= processes.tree(os.getpid(), everything)
    for pid, process in everything.items():
        if process.name in PACKAGE_TOOLS:
            spared |= processes.tree(pid, everything)
    processes.end(set(processes.marked(processes.RUN_MARK)) - spared, LEFTOVER_GRACE)


def _die_with_parent(number: signal.Signals) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def print_event(event: Event) -> None:
    """Print one line."""
    print(event.line(), flush=True)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the options that the command line passes on."""
    parser = argparse.ArgumentParser(prog="python -m dockstack.deploy.run.apply")
    parser.add_argument("--environment", default=paths.ENVIRONMENT_FILE)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything; 0 if all is as wanted, 1 after a failure, 130 after an interruption."""
    _die_with_parent(signal.SIGTERM)
    options: Any = arguments().parse_args(argv)
    end_leftovers()
    node = inventory.load(options.environment, options.assignments, saved_options=paths.SAVED_OPTIONS).local
    return carry_out(node, tasks(node, node_stages(node)), Secrets(paths.SECRETS_FILE))


def carry_out(node: Node, work: Sequence[Task], secrets: Secrets, tell: Callable[[Event], None] = print_event) -> int:
    """Run tasks of this machine and tell of them; return the exit status, as ``main`` does."""
    parallel = node.attributes.number("deploy.parallel")
    runner = Runner({task.key: task for task in work}, parallel, tell, secrets)
    signal.signal(signal.SIGTERM, runner.interrupt)
    signal.signal(signal.SIGINT, runner.interrupt)
    tell(Event(Kind.PLAN, tasks=tuple(runner.waiting)))
    ok = runner.run()
    if ok:
        runner.changes += retire_unwanted(node, secrets, runner.services)
    seconds = round(time.monotonic() - runner.began, 2)
    tell(Event(Kind.END, ok=ok, changes=runner.changes, seconds=seconds))
    return INTERRUPTED if runner.interrupted else int(not ok)


if __name__ == "__main__":
    sys.exit(main())
