# SPDX-License-Identifier: Apache-2.0
"""`dockstack chaos` on machines of their own: systemd finds there what is killed, and a host dies of a power cut."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from container import CGROUP
from lab import PATIENCE, RUNC, RUNNING

from dockstack.chaos import machine, survey
from dockstack.chaos.journal import Journal
from dockstack.chaos.machine import Place
from dockstack.chaos.model import Outcome, Victim, Wishes
from dockstack.chaos.report import line_of
from dockstack.chaos.run import Run, Stage
from dockstack.chaos.story import draw
from dockstack.chaos.victims import Absent
from dockstack.cli.chaos import find_means
from dockstack.verify.cloud import Choices, find_facts
from dockstack.verify.context import Context
from dockstack.verify.model import Timeouts

if TYPE_CHECKING:
    from cloud_of_machines import Cloud
    from lab import Machine

CALM_SECONDS = 300.0
LIVING = survey.list_living  # of the whole kernel
ENGINE_UNIT = "docker"  # all others are called dockstack-NAME


class MachineHunter:
    """Kills on machines what `dockstack chaos` kills on its own (chaos/victims.py)."""

    def __init__(self, machines: tuple[Machine, ...], places: tuple[Place, ...]) -> None:
        """Take the machines, the cloud's first."""
        self._machines, self._places = machines, places

    def strike_service(self, victim: Victim, number: int) -> dict[int, str]:
        engine = victim is Victim.ENGINE
        unit = ENGINE_UNIT if engine else f"dockstack-{victim.value}"
        whom = "main" if engine else "all"
        line = f"systemctl show -p MainPID --value {unit} && systemctl kill --signal=KILL --kill-whom={whom} {unit}"
        return self._killed(number, line, victim.value)

    def strike_containerd(self, number: int) -> dict[int, str]:
        return self._killed(number, "pgrep -x containerd && pkill -9 -x containerd", Victim.CONTAINERD.value)

    def strike_shim(self, server_id: str) -> dict[int, str]:
        for number, place in enumerate(self._places):
            for container in machine.list_containers(place, server_id):
                shim = f"ps -o ppid= -p {container['State']['Pid']}"
                line = f"shim=$({shim}) && grep -q ^containerd-shim /proc/$((shim))/comm && echo $((shim))"
                return self._killed(number, f"{line} && kill -9 $((shim))", Victim.SHIM.value)
        raise Absent(f"Server {server_id} runs nowhere.")

    def strike_host(self, number: int, away: float) -> dict[int, str]:
        self._machines[number].power_off()
        time.sleep(away)  # as long as the story has it off
        self._machines[number].power_on()
        return {1: self._machines[number].name}

    def _killed(self, number: int, line: str, name: str) -> dict[int, str]:
        done = self._machines[number].run(line, check=False)
        main = (done.stdout.split() or ["0"])[0]
        if done.returncode or main == "0":
            raise Absent(f"{name} does not run on {self._machines[number].name}.")
        return {int(main): name}


def list_living() -> frozenset[str]:
    """Return those of the machines' containers that have processes: another cloud's chaos may run beside."""
    groups = (path for top in Path("/sys/fs/cgroup").glob(f"*{CGROUP}") for path in top.rglob("*"))
    ours = {identity for group in groups for identity in survey.CONTAINER_ID.findall(group.name)}
    return LIVING() & ours


def tell(cloud: Cloud, nodes: tuple[Machine, ...], wishes: Wishes) -> Outcome:
    """Tell a story on the cloud's machines, and return what it came to; its journal stays beside the machines."""
    machines = (cloud.controller, *nodes)
    places = tuple(
        Place("" if one is cloud.controller else one.name, one.name, (*RUNC, "exec", one.name), apart=True)
        for one in machines
    )
    connection = cloud.connect()
    facts = find_facts(connection, Choices())
    ctx = Context(connection, facts, "chaos", lambda _: None, Timeouts(terminate=CALM_SECONDS * PATIENCE))
    with ctx.stack:
        journal = Journal(RUNNING / f"chaos-{wishes.seed}.jsonl", lambda note: print(line_of(note), flush=True))
        ctx.stack.callback(journal.close)
        stage = Stage(
            connect=cloud.connect,
            means=find_means(ctx),
            places=places,
            services=(),  # Nova tells of the hosts'; the others must run for it to do so
            backend=None,
            hunter=MachineHunter(machines, places),
            journal=journal,
            patience=CALM_SECONDS * PATIENCE,
            # Floating IPs lead to the controller's external bridge; from here there is no way to it.
            answers=lambda address: cloud.controller.run(f"ping -c 1 -W 2 {address}", check=False).returncode == 0,
        )
        run = Run(draw(wishes), stage)
        ctx.stack.callback(run.clean_up)
        run.tell()
        run.find_calm()
        run.delete_all()
        return run.conclude()
