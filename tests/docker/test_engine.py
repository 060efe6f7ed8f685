# SPDX-License-Identifier: Apache-2.0
"""The engine's door: typed results, typed errors, and what an engine does to servers when it goes away."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from private_engine import ENGINE_ROOT, PrivateEngine, wait_for
from server_lab import docker_archive

from dockstack.compute.consoles import log
from dockstack.compute.containers import limits
from dockstack.compute.engine import (
    Conflict,
    Engine,
    EngineError,
    EngineFull,
    EngineUnavailable,
    ImageUnusable,
    NotFound,
)
from dockstack.compute.model import Limits, PowerState
from dockstack.compute.resources import cgroups
from dockstack.compute.resources.cgroups import Usage
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts, ask, obstacles
from dockstack.deploy.wanted.inventory import load
from dockstack.oci.process import ImageConfig

HOSTILE = "a\nb\x1b[31m\"'`$(x)\\ \u202e\u00e9\U0001f600{{.}} --privileged"


def test_describes_itself(engine, private_engine) -> None:
    info = engine.info()
    assert "dockstack" in info.runtimes
    assert info.live_restore
    assert info.root_directory == str(private_engine.directory / "data")
    assert info.cpus >= 1
    assert info.memory_bytes > 1 << 28
    assert info.cgroup_version in (1, 2)


def test_it_is_the_engine_that_was_asked_for(private_engine) -> None:
    program = Path(f"/proc/{private_engine.pid}/exe")
    assert program.samefile(f"{ENGINE_ROOT}/usr/sbin/dockerd")


def test_states_in_one_listing(lab) -> None:
    running, paused, stopped, created = lab.boot(), lab.boot(), lab.boot(), lab.server()
    lab.create(created)
    lab.engine.pause(paused.container_name)
    lab.engine.stop(stopped.container_name, 0)
    wanted = {
        running.uuid: PowerState.RUNNING,
        paused.uuid: PowerState.PAUSED,
        stopped.uuid: PowerState.SHUTDOWN,
        created.uuid: PowerState.SHUTDOWN,
    }

    def listed() -> dict[str, PowerState]:
        return {container.server_uuid: container.state for container in lab.engine.containers()}

    # A stop is answered before the listing has it, from Docker 26 on; its event comes after that.
    wait_for(lambda: listed() == wanted, "the states in a listing")
    assert lab.state(paused).state is PowerState.PAUSED
    assert lab.state(stopped).exit_code == 137
    lab.engine.unpause(paused.container_name)
    assert lab.state(paused).state is PowerState.RUNNING
    assert lab.engine.containers({"org.openstack.nova.host": "another"}) == ()


def test_labels_say_everything_back_whatever_they_hold(lab) -> None:
    server = lab.boot(name=HOSTILE, user_id=HOSTILE)
    labels = lab.state(server).labels
    assert labels["org.openstack.nova.name"] == HOSTILE
    (listed,) = lab.engine.containers({"org.openstack.nova.uuid": server.uuid})
    assert listed.labels == labels


def test_foreign_containers_are_none_of_ours(lab, private_engine) -> None:
    """They use their own runtime, even with our labels; and our runtime refuses them."""
    server = lab.boot()
    docker = ["docker", "-H", private_engine.url]
    label = f"org.openstack.nova.uuid={server.uuid}"
    command = [lab.image_id, "ip", "-o", "link"]
    done = subprocess.run(
        [*docker, "run", "--rm", "--name", "foreign", "--network=none", "--label", label, *command],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lo" in done.stdout
    assert "eth0" not in done.stdout
    subprocess.run(
        [*docker, "create", "--name", "foreign", "--label", label, *command], check=True, capture_output=True
    )
    try:
        assert [container.name for container in lab.engine.containers()] == [server.container_name]
    finally:
        subprocess.run([*docker, "rm", "-f", "foreign"], check=True, capture_output=True)
    refused = subprocess.run(
        [*docker, "run", "--rm", "--runtime=dockstack", "--network=none", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "no network was prepared for this container" in refused.stderr


def test_errors_have_types(lab, private_engine) -> None:
    server = lab.boot()
    name = server.container_name
    with pytest.raises(NotFound):
        lab.engine.container("nova-nowhere")
    with pytest.raises(NotFound):
        lab.engine.start("nova-nowhere")
    with pytest.raises(Conflict):
        lab.create(server)
    with pytest.raises(NotFound):
        lab.create(lab.server(), image_id="sha256:" + "0" * 64)
    with pytest.raises(EngineError, match="not paused"):
        lab.engine.unpause(name)
    lab.engine.pause(name)
    with pytest.raises(Conflict):
        lab.engine.pause(name)
    lab.engine.unpause(name)
    lab.engine.start(name)
    lab.engine.stop(name, 0)
    lab.engine.stop(name, 0)
    with pytest.raises(Conflict):
        lab.engine.kill(name)
    lab.engine.remove(name)
    lab.engine.remove(name)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        Engine("unix:///nonexistent/docker.sock", 5).ping()
    assert lab.engine.image("nowhere:1") is None
    lab.engine.remove_image("nowhere:1")


def test_a_command_that_is_not_in_the_image_is_the_images_fault(lab) -> None:
    server = lab.server(properties={"docker_command": '["/no/such/program"]'})
    lab.create(server)
    with pytest.raises(ImageUnusable, match="no such file"):
        lab.engine.start(server.container_name)


@pytest.mark.parametrize(
    "archive", [b"", b"rubbish" * 1000, docker_archive()[:4096]], ids=["empty", "rubbish", "truncated"]
)
def test_a_broken_archive_is_the_images_fault(engine, archive) -> None:
    with pytest.raises(ImageUnusable):
        engine.load_image([archive])


def test_a_frozen_engine_is_unavailable_and_comes_back(lab, private_engine) -> None:
    server = lab.boot()
    impatient = Engine(private_engine.url, 1)
    wait_for(lambda: answers(impatient), "an answer in time")
    private_engine.freeze()
    try:
        started = time.monotonic()
        with pytest.raises(EngineUnavailable):
            impatient.container(server.container_name)
        assert time.monotonic() - started < 30
    finally:
        private_engine.thaw()
    wait_for(lambda: answers(impatient), "the engine's return")
    assert lab.state(server).state is PowerState.RUNNING


def answers(engine) -> bool:
    with suppress(EngineUnavailable):
        engine.ping()
        return True
    return False


def test_one_engine_serves_many_threads(lab) -> None:
    server = lab.boot()
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: lab.run(server, "echo", str(number)), range(32)))
        states = list(threads.map(lambda _: lab.state(server).state, range(64)))
    assert answers == [f"{number}\n" for number in range(32)]
    assert set(states) == {PowerState.RUNNING}


def test_execute_feeds_and_collects(lab) -> None:
    server = lab.boot()
    name = server.container_name
    text = bytes(range(256)) * 4096
    assert lab.engine.execute(name, ["cat"], stdin=text) == (0, text)
    assert lab.engine.execute(name, ["sh", "-c", "echo $X; id -u; exit 7"], environment={"X": "y"}, user="5") == (
        7,
        b"y\n5\n",
    )
    with pytest.raises(EngineUnavailable):
        lab.engine.execute(name, ["sleep", "100"], timeout=1)
    assert lab.engine.execute(name, ["seq", "100000"], output_bytes=7).output == b"100000\n"
    lab.engine.stop(name, 0)
    with pytest.raises(Conflict):
        lab.engine.execute(name, ["true"])


def test_a_command_that_closes_its_output_before_it_ends_is_waited_for(lab) -> None:
    name = lab.boot().container_name
    closed = ["sh", "-c", "echo said; exec >&- 2>&-; sleep 2; exit 3"]
    assert lab.engine.execute(name, closed) == (3, b"said\n")
    with pytest.raises(EngineUnavailable):
        lab.engine.execute(name, ["sh", "-c", "exec >&- 2>&-; sleep 100"], timeout=1)


def test_files_go_in_and_out(lab) -> None:
    server = lab.boot()
    whole = b"".join(lab.engine.get_archive(server.container_name, "/data/from-image"))
    lab.engine.put_archive(server.container_name, "/bin", whole)
    assert lab.run(server, "cat", "/bin/from-image") == "image\n"


def test_console_log_is_bounded(lab, private_engine) -> None:
    server = lab.boot(
        "i=0; while [ $i -lt 400 ]; do seq 100000 105000; i=$((i+1)); done; echo the end; exec sleep 1000"
    )
    wait_for(lambda: b"the end" in log.tail(lab.engine, server.container_name, 100), "the output", timeout=300)
    tail = log.tail(lab.engine, server.container_name)
    assert len(tail) == log.MAX_BYTES
    assert tail.endswith(b"104999\n105000\nthe end\n")
    lines = tail.decode().splitlines()[-2000:-1]
    assert all(len(line) == 6 for line in lines)
    directory = private_engine.directory / "data" / "containers" / lab.state(server).id
    assert sum(path.stat().st_size for path in directory.glob("*-json.log*")) < 11 << 20
    assert log.tail(lab.engine, server.container_name, 0) == b""
    lab.engine.stop(server.container_name, 0)
    assert log.tail(lab.engine, server.container_name, 8) == b"the end\n"


def test_console_log_of_a_terminal_and_of_silence(lab) -> None:
    talker = lab.boot("echo hello; exec sleep 1000", properties={"docker_tty": "true"})
    wait_for(lambda: log.tail(lab.engine, talker.container_name) == b"hello\r\n", "the output")
    assert log.tail(lab.engine, lab.boot().container_name) == b""


def test_limits_hold(lab) -> None:
    server = lab.boot(limits=Limits(vcpus=1, memory_mb=32, disk_gb=1, pids=30, nofile=300))
    used = cgroups.usage(lab.state(server).pid)
    assert used.memory_max_bytes == 32 << 20
    assert lab.run(server, "sh", "-c", "ulimit -n") == "300\n"
    greedy = lab.engine.execute(server.container_name, ["sh", "-c", "head -c 100000000 /dev/zero | tail"])
    assert greedy.exit_code != 0
    wait_for(lambda: cgroups.usage(lab.state(server).pid).oom_kills > used.oom_kills, "the count of kills")
    forks = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done; true"
    assert lab.engine.execute(server.container_name, ["sh", "-c", forks]).exit_code != 0
    assert lab.state(server).state is PowerState.RUNNING


def test_limits_change_live(lab) -> None:
    server = lab.boot()
    lab.engine.update(server.container_name, limits.update_values(Limits(vcpus=2, memory_mb=128, disk_gb=1)))
    assert cgroups.usage(lab.state(server).pid).memory_max_bytes == 128 << 20
    lab.engine.update(server.container_name, limits.update_values(Limits(vcpus=1, memory_mb=16, disk_gb=1)))
    assert cgroups.usage(lab.state(server).pid).memory_max_bytes == 16 << 20
    with pytest.raises(EngineError):
        lab.engine.update(server.container_name, {"Memory": 1, "MemorySwap": 1})
    assert cgroups.usage(0) is None


def test_usage_counts(lab) -> None:
    server = lab.boot("yes > /dev/null")
    wait_for(lambda: cgroups.usage(lab.state(server).pid).cpu_ns > 50_000_000, "CPU time")
    used = cgroups.usage(lab.state(server).pid)
    assert isinstance(used, Usage)
    assert used.pids >= 1
    assert used.memory_bytes > 0


def test_declared_volumes_live_in_the_root_file_system(lab, engine) -> None:
    image_id = engine.load_image([docker_archive({"Volumes": {"/data": {}}})])[0]
    server = lab.server("cat /data/from-image; touch /data/new; exec sleep 1000")
    lab.create(server, ImageConfig(env={"PATH": "/bin"}, volumes=("/data",)), image_id)
    lab.engine.start(server.container_name)
    wait_for(lambda: log.tail(engine, server.container_name) == b"image\n", "the output")
    assert " /data " not in lab.run(server, "cat", "/proc/mounts")
    diff = subprocess.run(
        ["docker", "-H", engine.base_url, "diff", server.container_name], capture_output=True, text=True, check=True
    )
    assert "A /data/new" in diff.stdout


def test_an_inits_run_is_empty_at_each_boot_and_others_is_not(lab) -> None:
    plain = lab.boot("mkdir -p /run; touch /run/mine; ls /run; exec sleep 1000")
    assert " /run " not in lab.run(plain, "cat", "/proc/mounts")


def test_not_privileged(lab) -> None:
    server = lab.boot()
    status = dict(
        line.split(":\t", 1) for line in lab.run(server, "cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "0"  # sudo and su work in a server; a flavor may forbid it
    assert status["Seccomp"] == "2"
    capabilities = int(status["CapEff"], 16)
    for dangerous in (12, 16, 17, 19, 21, 22, 25, 27):  # NET_ADMIN, SYS_MODULE, RAWIO, PTRACE, ADMIN, BOOT, TIME, MKNOD
        assert not capabilities >> dangerous & 1
    inspected = json.loads(
        subprocess.run(
            ["docker", "-H", lab.engine.base_url, "inspect", server.container_name], capture_output=True, check=True
        ).stdout
    )[0]
    assert inspected["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert inspected["HostConfig"]["Privileged"] is False
    assert inspected["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_save_and_load(engine) -> None:
    [image_id] = engine.load_image([docker_archive({"Cmd": ["/bin/true"]})])
    engine.tag_image(image_id, "saved", "1")
    found = engine.image("saved:1")
    assert found.id == image_id
    assert found.tags == ("saved:1",)
    assert [image.id for image in engine.images(reference="saved")] == [image_id]
    archive = b"".join(engine.save_image(image_id))
    engine.remove_image("saved:1")
    assert engine.load_image([archive[:70000], archive[70000:]]) == (image_id,)
    engine.remove_image(image_id)
    assert engine.image(image_id) is None


def test_removing_at_once_from_two_sides(lab) -> None:
    server = lab.boot()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lab.engine.remove, [server.container_name] * 4))
    with pytest.raises(NotFound):
        lab.state(server)


def test_rename(lab) -> None:
    server = lab.boot()
    lab.engine.rename(server.container_name, server.container_name + "-old")
    assert [found.name for found in lab.engine.containers()] == [server.container_name + "-old"]
    lab.engine.rename(server.container_name + "-old", server.container_name)


def test_runs_as_a_user_with_init_and_environment(lab) -> None:
    server = lab.boot(
        "id -u; echo $A $B; hostname; cat /proc/1/comm",
        properties={"docker_user": "7", "docker_init": "true", "docker_env": '{"A": "1", "B": "2"}'},
        metadata={"docker_env_B": HOSTILE.split("\n", maxsplit=1)[0]},
    )
    assert lab.output(server).splitlines() == ["7", "1 a", server.hostname, "docker-init"]


def test_threads_and_descriptors_stay_few(lab) -> None:
    server = lab.boot()

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def busy() -> None:
        for _ in range(20):
            lab.run(server, "echo")
            log.tail(lab.engine, server.container_name)

    busy()  # fills the SDK's pool of connections
    threads, files = threading.active_count(), descriptors()
    busy()
    assert threading.active_count() <= threads + 1
    assert descriptors() <= files + 2


@pytest.mark.parametrize("end", ["stop", "remove"])
def test_a_paused_server_can_be_ended(lab, end) -> None:
    server = lab.boot()
    lab.engine.pause(server.container_name)
    if end == "stop":
        lab.engine.stop(server.container_name, 1)
        assert lab.state(server).state is PowerState.SHUTDOWN
    else:
        lab.engine.remove(server.container_name)
        assert lab.engine.containers() == ()


@pytest.mark.skipif(not ENGINE_ROOT, reason="Debian 12's engine keeps images itself, always")
def test_an_engine_that_keeps_images_in_containerd_is_refused_by_that_key() -> None:
    private = PrivateEngine("store", image_store=True)
    private.install()
    try:
        private.start()
        facts = EngineFacts(info=ask(str(private.socket)))
        (found,) = obstacles(load(None, ()).local.attributes, facts)
        assert "features.containerd-snapshotter" in found.brief
        engine = Engine(private.url, 60)
        engine.load_image([docker_archive()])
        assert engine.layer_stacks(time.monotonic() + 60) == frozenset(), (
            "it would take an image without its layers, and not start it"
        )
    finally:
        private.clean()


def test_a_full_disk_is_named(tmp_path) -> None:
    private = PrivateEngine("full", disk="8m")
    private.install()
    try:
        private.start()
        engine = Engine(private.url, 60)
        with pytest.raises(EngineFull, match=r"disk is full.*Free space"):
            engine.load_image([docker_archive(padding=16 << 20)])
        (image_id,) = engine.load_image([docker_archive()])
        assert engine.image(image_id) is not None
    finally:
        private.clean()
