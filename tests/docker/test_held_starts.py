# SPDX-License-Identifier: Apache-2.0
"""A start that is held until the server's network is complete, with the real engine and the real runtime."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from private_engine import ENGINE_ROOT, wait_for
from server_lab import lab_host

from dockstack.compute.containers import namespaces, runtime, spec
from dockstack.compute.engine import EngineError
from dockstack.compute.flows import lifecycle
from dockstack.compute.host import creation
from dockstack.compute.model import PowerState
from dockstack.compute.network import veth
from dockstack.oci.process import ImageConfig

LOOK = "ip -4 addr show eth0; cat /etc/hosts /etc/resolv.conf; exec sleep 1000"
CONFIG = ImageConfig(env={"PATH": "/bin"})
HOLD = """
import sys, time
from pathlib import Path
from dockstack.compute.containers import runtime
with runtime.holding(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def made(lab):
    """Make a server's container while nothing is known of its ports."""

    def make() -> tuple:
        server = lab.server(LOOK)
        namespaces.prepare(server.uuid)
        container_id = lab.engine.create(
            server.container_name, spec.build_spec(server, lab.image_id, CONFIG, host="host")
        )
        runtime.write_patch(lab.private.patches, container_id, spec.build_patch(replace(server, ports=()), CONFIG))
        return server, container_id

    return make


def wait_created(lab, container_id) -> None:
    state = lab.private.patches / f"{container_id}.held"
    wait_for(state.exists, "the container's creation by the runtime")


def test_its_first_process_meets_the_whole_network(lab, made) -> None:
    server, container_id = made()
    with ThreadPoolExecutor(1) as beside, runtime.holding(lab.private.patches, container_id):
        started = beside.submit(lab.engine.start, server.container_name)
        wait_created(lab, container_id)
        (port,) = server.ports
        veth.wire(server, port)
        runtime.write_patch(lab.private.patches, container_id, spec.build_patch(server, CONFIG))
        assert not started.done()
    started.result()
    address = port.addresses[0].cidr
    lab.wait_for_log(server, f"nameserver {port.dns[0]}".encode())
    said = lab.engine.logs(server.container_name, 1 << 20).decode()
    assert f"inet {address}" in said
    assert f"{address.partition('/')[0]}\t{server.hostname}\n" in said
    assert [path.suffix for path in lab.private.patches.iterdir() if path.stem == container_id] == [".json"]
    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    assert lab.state(server).state is PowerState.RUNNING


def test_a_start_that_comes_after_the_release_is_no_other(lab, made) -> None:
    server, container_id = made()
    (port,) = server.ports
    with runtime.holding(lab.private.patches, container_id):
        veth.wire(server, port)
        runtime.write_patch(lab.private.patches, container_id, spec.build_patch(server, CONFIG))
    lab.engine.start(server.container_name)
    lab.wait_for_log(server, f"nameserver {port.dns[0]}".encode())


def find_processes(container_id):
    """Processes of a container, whatever its engine says, and its shim."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if container_id in (path / "cgroup").read_text() or container_id in (path / "cmdline").read_text():
                found.append(path.name)
    return found


def is_waiting(container_id) -> bool:
    """Whether the runtime has made a container, and waits to start it."""
    for pid in find_processes(container_id):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "start" in words and any(word.endswith("dockstack-runtime-editor") for word in words):
                return True
    return False


def test_without_its_network_no_process_runs(lab, made) -> None:
    server, container_id = made()
    with ThreadPoolExecutor(1) as beside:
        with suppress(RuntimeError), runtime.holding(lab.private.patches, container_id):
            started = beside.submit(lab.engine.start, server.container_name)
            wait_created(lab, container_id)
            raise RuntimeError
        with pytest.raises(EngineError, match="the network of this container was not completed"):
            started.result()
    assert lab.state(server).state is PowerState.SHUTDOWN
    assert lab.engine.logs(server.container_name, 1 << 20) == b""
    wait_for(lambda: not find_processes(container_id), "its first process and its shim to be gone")


def test_with_the_drivers_death_no_process_runs(lab, made) -> None:
    server, container_id = made()
    command = [sys.executable, "-c", HOLD, str(lab.private.patches), container_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder, ThreadPoolExecutor(1) as beside:
        assert holder.stdout.readline() == b"held\n"
        started = beside.submit(lab.engine.start, server.container_name)
        wait_created(lab, container_id)
        holder.kill()
        with pytest.raises(EngineError, match="the network of this container was not completed"):
            started.result()
    assert lab.engine.logs(server.container_name, 1 << 20) == b""


@pytest.fixture
def forgotten(lab, made):
    """Kill a whole engine between a container's making by the runtime and its start; `runc init` waits for ever."""

    def forget() -> tuple:
        server, container_id = made()
        with ThreadPoolExecutor(1) as beside, runtime.holding(lab.private.patches, container_id):
            started = beside.submit(lab.engine.start, server.container_name)
            wait_for(lambda: is_waiting(container_id), "the held start")
            lab.private.kill_whole()
            wait_for(lambda: not is_waiting(container_id), "the end of what containerd had asked for")
        with pytest.raises(EngineError):
            started.result()
        lab.private.start()
        wait_for(lambda: len(find_processes(container_id)) == 2, "the shim and its child, and who asks for them gone")
        return server, container_id

    return forget


def test_what_a_killed_engine_forgot_ends_with_its_container(lab, forgotten, tmp_path) -> None:
    _, container_id = forgotten()
    other = lab.boot()
    host = lab_host(lab.private, tmp_path)
    creation.remove(host, host.engine.container(container_id))
    wait_for(lambda: not find_processes(container_id), "its processes to be reaped")
    assert not list(lab.private.directory.glob(f"*/io.containerd.runtime.v2.task/moby/{container_id}"))
    assert container_id not in runtime.patched(host.patches)
    assert lab.state(other).state is PowerState.RUNNING


def test_it_does_not_keep_its_server_from_starting(lab, forgotten, tmp_path) -> None:
    server, container_id = forgotten()
    if not ENGINE_ROOT:  # from Docker 26 on, the engine itself puts that in order
        with pytest.raises(EngineError, match="already in use"):
            lab.engine.start(server.container_name)
    lifecycle.start(lab_host(lab.private, tmp_path), replace(server, ports=()))
    # Docker 26 may hear only now that what it forgot has ended, and takes that for its server's end, for a moment.
    wait_for(lambda: lab.state(server).state is PowerState.RUNNING, "the server's start")
    lab.engine.remove(container_id)
    wait_for(lambda: not find_processes(container_id), "all of it to be gone")
