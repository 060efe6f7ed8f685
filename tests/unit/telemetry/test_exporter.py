# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets of a host with servers, read with its own parser."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dockstack.compute.containers import runtime
from dockstack.compute.host.counts import Counts
from dockstack.telemetry import exporter
from dockstack.telemetry.metrics import HostMetrics
from telemetry_host import PROJECT, TelemetryHost

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit
SECONDS = 60  # what a machine with other work may need


@pytest.fixture(params=[1, 2], ids=["cgroup 1", "cgroup 2"])
def host(request, tmp_path) -> TelemetryHost:
    return TelemetryHost(tmp_path / "host", request.param)


def scrape(host: TelemetryHost, compute: Path | None = None) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, the server's first."""
    metrics = HostMetrics(host.census(), name="node7", disk="/", compute=compute)
    text = exporter.generate_latest(exporter.build_registry(metrics)).decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels, key="server".__ne__))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_server_that_runs(host) -> None:
    server = host.add(7)
    found = scrape(host)
    assert found["dockstack_server_info", server, PROJECT] == 1
    device = host.devices[-1][1]
    own = {(server,), (server, device)}
    told = {key[0].removeprefix("dockstack_server_"): value for key, value in found.items() if key[1:] in own}
    assert told == {
        "running": 1,
        "paused": 0,
        "cpu_seconds_total": 2.5,
        "cpu_throttled_seconds_total": 0.5,
        "cpu_limit_cores": 2,
        "memory_usage_bytes": 12288,
        "memory_working_set_bytes": 8192,
        "memory_limit_bytes": 64 << 20,
        "oom_kills_total": 1,
        "processes": 3,
        "disk_read_bytes_total": 4096,
        "disk_written_bytes_total": 8192,
        "disk_reads_total": 1,
        "disk_writes_total": 2,
        "network_receive_bytes_total": 2000,
        "network_transmit_bytes_total": 1000,
        "network_receive_packets_total": 20,
        "network_transmit_packets_total": 10,
        "network_receive_drop_total": 4,
        "network_transmit_drop_total": 2,
    }


def test_a_server_that_is_stopped_is_there_and_uses_nothing(host) -> None:
    server = host.add(7, running=False)
    found = scrape(host)
    assert found["dockstack_server_running", server] == 0
    assert ("dockstack_server_memory_usage_bytes", server) not in found
    assert any(key[:2] == ("dockstack_server_network_receive_bytes_total", server) for key in found)


def test_a_rescued_server_is_the_container_that_runs(host) -> None:
    server = host.add(7)
    for other in ("0" * 64, "f" * 64):
        runtime.write_owner(host.patches, other, server, PROJECT)
    assert scrape(host)["dockstack_server_running", server] == 1


def test_what_comes_and_goes_between_two_scrapes(host) -> None:
    first, census = host.add(7), host.census()
    assert [reading.uuid for reading in census.read()] == [first]
    runtime.remove_patch(host.patches, f"{7:064x}")
    second = host.add(8)
    (reading,) = census.read()
    assert (reading.uuid, len(reading.ports)) == (second, 1)
    assert census.read_one(second) == reading
    assert census.read_one(first) is None


def test_a_device_that_has_its_alias_only_later(host) -> None:
    server, census = host.add(7), host.census()
    alias = host.links / host.devices[-1][1] / "ifalias"
    alias.write_text("\n")
    assert census.read()[0].ports == {}
    alias.write_text(f"nova-{server}\n")
    assert len(census.read()[0].ports) == 1


def test_the_host(host) -> None:
    found = scrape(host)
    assert found["dockstack_host_info", "node7"] == 1
    assert found["dockstack_host_disk_size_bytes",] > found["dockstack_host_disk_free_bytes",] > 0
    assert found["dockstack_host_cpu_seconds_total", "user"] > 0
    assert found["dockstack_host_memory_total_bytes",] > found["dockstack_host_memory_available_bytes",] > 0


def test_a_source_that_cannot_be_read_costs_no_other(host, tmp_path) -> None:
    host.patches.rmdir()
    found = scrape(host, tmp_path / "none.prom")
    readable = {key[1]: value for key, value in found.items() if key[0] == "dockstack_exporter_source_readable"}
    assert readable == {"servers": 0, "host": 1, "compute": 0}


def test_hostile_words_stay_values_of_labels(host) -> None:
    project = 'x"} 1\ndockstack_server_running{server="forged'
    server = host.add(7, project=project)
    found = scrape(host)
    assert found["dockstack_server_info", server, project] == 1
    assert ("dockstack_server_running", "forged") not in found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"server": 7}', "null"])
def test_a_note_that_nobody_can_read_is_no_server(host, text) -> None:
    (host.patches / f"{'a' * 64}.server").write_text(text)
    assert host.census().read() == ()


def test_what_nova_compute_counted_and_nothing_else_from_its_file(host, tmp_path) -> None:
    path = tmp_path / "compute.prom"
    counts = Counts(str(path))
    with counts.boot() as boot:
        boot.reached("image")

    class Driver:
        def spawn(self, fails: bool) -> str:
            if fails:
                raise ValueError
            return "server"

        def rebuild(self) -> None:
            raise NotImplementedError

    driver = Driver()
    counts.watch(driver, ["spawn", "rebuild"])
    with pytest.raises(NotImplementedError):
        driver.rebuild()
    assert driver.spawn(fails=False) == "server"
    with pytest.raises(ValueError):
        driver.spawn(True)
    with path.open("a") as file:
        file.write('dockstack_server_running{server="forged"} 1\n')
    found = scrape(host, path)
    assert found["dockstack_compute_actions_total", "spawn", "done"] == 1
    assert found["dockstack_compute_actions_total", "spawn", "failed"] == 1
    assert {found["dockstack_compute_actions_total", "rebuild", result] for result in ("done", "failed")} == {0}
    assert found["dockstack_compute_boot_seconds_count",] == 1
    assert found["dockstack_compute_boot_phase_seconds_count", "image"] == 1
    assert not any("forged" in key or key[0].endswith("_created") for key in found)
    assert path.stat().st_mode & 0o777 == 0o644


def test_no_action_fails_because_it_cannot_be_counted(tmp_path) -> None:
    counts = Counts(str(tmp_path / "none" / "compute.prom"))

    class Driver:
        def spawn(self) -> str:
            return "server"

    driver = Driver()
    counts.watch(driver, ["spawn"])
    assert driver.spawn() == "server"


def test_without_a_file_nothing_is_watched() -> None:
    class Driver:
        def spawn(self) -> None: ...

    driver = Driver()
    Counts("").watch(driver, ["spawn"])
    assert vars(driver) == {}


@contextmanager
def serving(page: exporter.Page, patience: float = exporter.PATIENCE):
    with exporter.Exporter(("127.0.0.1", 0), page, patience) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address
        finally:
            server.shutdown()
            thread.join()


def get(address: tuple[str, int], path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=SECONDS)
    connection.request("GET", path)
    return connection.getresponse()


def until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_answers_by_http() -> None:
    with serving(exporter.Page(lambda: b"made 1\n")) as address:
        answer = get(address, "/metrics")
        assert (answer.status, answer.read()) == (200, b"made 1\n")
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert "Python" not in answer.headers["Server"]
        assert get(address, "/").status == 200
        assert get(address, "/etc/passwd").status == 404


def test_whoever_only_holds_connections_keeps_nobody_out_and_takes_no_more_threads(monkeypatch) -> None:
    monkeypatch.setattr(exporter, "CLIENTS", 4)
    with serving(exporter.Page(lambda: b"made 1\n")) as address, ExitStack() as held:
        before = threading.active_count()
        slow = [held.enter_context(socket.create_connection(address, SECONDS)) for _ in range(3 * exporter.CLIENTS)]
        for one in slow[-3:]:
            one.sendall(b"GET /metrics HT")
        assert get(address, "/metrics").read() == b"made 1\n"
        until(lambda: threading.active_count() - before <= exporter.CLIENTS)
        assert slow[0].recv(1) == b"", "the oldest was cut off"


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.0\r\n"], ids=["says nothing", "drips"])
def test_who_does_not_come_to_an_end_is_cut_off(said) -> None:
    began = time.monotonic()  # before the server can begin to count
    with (
        serving(exporter.Page(lambda: b""), patience=0.2) as address,
        socket.create_connection(address, SECONDS) as slow,
    ):
        slow.sendall(said)
        slow.settimeout(0.02)
        while time.monotonic() - began < SECONDS:
            try:
                if said:
                    slow.sendall(b"x")  # each is a sign of life, and none is the end of a line
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert 0.1 < time.monotonic() - began < SECONDS


def test_who_does_not_take_the_answer_is_cut_off() -> None:
    asked = threading.Event()
    page = exporter.Page(lambda: asked.set() or bytes(16 << 20))
    with serving(page, patience=0.2) as address:
        before, taken = threading.active_count(), 0
        slow = socket.create_connection(address, SECONDS)
        slow.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert asked.wait(SECONDS)
        until(lambda: threading.active_count() <= before)
        with suppress(ConnectionError):
            while some := slow.recv(1 << 20):
                taken += len(some)
        slow.close()
        assert taken < 16 << 20


def test_clients_that_go_away_are_no_news(capfd) -> None:
    with serving(exporter.Page(lambda: b"x" * (1 << 20))) as address:
        for _ in range(5):
            with socket.create_connection(address, SECONDS) as hasty:
                hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets it
                hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert get(address, "/").status == 200
    assert capfd.readouterr() == ("", "")


def test_whoever_asks_in_a_loop_gets_the_same_answer() -> None:
    now, made = [0.0], []

    def make() -> bytes:
        made.append(now[0])
        return b"%d" % len(made)

    page, answers = exporter.Page(make, lambda: now[0]), []
    for now[0] in (0.0, 4.9, 5.0, 5.1):
        answers.append(page.read())
    assert answers == [b"1", b"1", b"2", b"2"]
