# SPDX-License-Identifier: Apache-2.0
"""What an image of a server says, and that what was measured is what is sent."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

import pytest

from dockstack import confinement
from dockstack.oci import snapshot
from dockstack.oci.documents import Layer, hybrid_archive
from dockstack.oci.normalise import ImageLimits, normalise
from image_archives import entry, pieces, rootfs, tar

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

IMAGE = {
    "Env": ["PATH=/bin", "A=1"],
    "Cmd": ["/bin/sh"],
    "Entrypoint": None,
    "User": "",
    "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "true"]},
    "Labels": {"org.openstack.nova.uuid": "x", "vendor": "me"},
    "Hostname": "",
}
SERVER = {
    "Env": ["PATH=/bin", "A=2", "B=c=d"],
    "Cmd": ["-c", "echo 'a b'"],
    "Entrypoint": ["/bin/sh"],
    "User": "1000:1000",
    "WorkingDir": "/srv",
    "StopSignal": "SIGINT",
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["NONE"]},
    "Labels": {"org.openstack.nova.uuid": "x"},
    "Hostname": "web",
}


def test_a_snapshot_runs_as_the_server_ran_and_keeps_what_else_its_image_said():
    assert snapshot.build_process(IMAGE, SERVER) == {
        "Env": ["PATH=/bin", "A=2", "B=c=d"],
        "Cmd": ["-c", "echo 'a b'"],
        "Entrypoint": ["/bin/sh"],
        "User": "1000:1000",
        "WorkingDir": "/srv",
        "StopSignal": "SIGINT",
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"]},
        "Labels": {"vendor": "me"},
    }


def test_what_a_server_had_switched_off_stays_off():
    assert snapshot.build_process({"Cmd": ["a"], "User": "root"}, {"Cmd": [], "Entrypoint": ["b"], "User": ""}) == {
        "Entrypoint": ["b"]
    }


def test_properties_say_the_same_as_the_configuration():
    process = snapshot.build_process(IMAGE, SERVER)
    assert snapshot.describe_process(process) == {
        "docker_entrypoint": '["/bin/sh"]',
        "docker_command": json.dumps(["-c", "echo 'a b'"]),
        "os_command_line": "-c 'echo '\"'\"'a b'\"'\"''",
        "docker_env": '{"PATH": "/bin", "A": "2", "B": "c=d"}',
        "docker_user": "1000:1000",
        "docker_workdir": "/srv",
        "docker_stop_signal": "SIGINT",
        "docker_env_PATH": "/bin",
        "docker_env_A": "2",
        "docker_env_B": "c=d",
    }


def test_an_environment_that_glance_cannot_hold_is_left_to_the_configuration():
    assert snapshot.describe_process({"Env": ["A=" + "x" * 70_000]})["docker_env"] == "{}"


def measure(read, limits):
    with snapshot.measuring(limits, 60) as measured:
        return measured(read)


def test_the_time_of_a_reading_begins_with_it():
    data = rootfs(("root/written", b"kept"))
    with snapshot.measuring(ImageLimits(), 1.5) as measured:
        time.sleep(2)  # so long the copy took, which is not the reading's fault
        assert measured(lambda: pieces(data)).size == len(data)


def test_a_reading_that_never_comes_leaves_no_process(monkeypatch):
    started = []
    start = confinement.start
    monkeypatch.setattr(confinement, "start", lambda *a, **k: started.append(start(*a, **k)) or started[-1])
    with pytest.raises(OSError, match="no room"), snapshot.measuring(ImageLimits(), 60):
        raise OSError("no room for the copy")
    assert started[0].returncode is not None


def test_what_is_sent_loads_everywhere(tmp_path: Path):
    data = rootfs(("root/written", b"kept"))
    layer = measure(lambda: pieces(data, 777), ImageLimits())
    assert_loads(layer, data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def assert_loads(layer: Layer, data: bytes, tmp_path: Path) -> None:
    configuration = snapshot.build_configuration(layer, {"Cmd": ["/bin/sh"]}, "x86_64", "a test")
    assert layer.size == len(data)
    assert str(layer.diff_id) == "sha256:" + hashlib.sha256(data).hexdigest()

    archive = hybrid_archive(configuration, [layer])
    with normalise(archive, architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as normalised:
        assert normalised.engine_id == str(configuration.digest)
        assert normalised.config.command == ("/bin/sh",)
        assert normalised.size == len(data)


def test_a_root_file_system_that_changes_between_the_readings_is_noticed():
    readings = [rootfs(("root/written", text)) for text in (b"one", b"two")]
    layer = measure(lambda: pieces(readings.pop(0)), ImageLimits())
    configuration = snapshot.build_configuration(layer, {}, "x86_64", "a test")
    with pytest.raises(snapshot.SnapshotError, match="changed while it was read"):
        b"".join(hybrid_archive(configuration, [layer]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (rootfs(("big", bytes(20_000)))[:9000], "damaged|too early"),
        (tar([entry("disk", b"4")]), "device node"),
        (rootfs(("big", bytes(9 << 20))), "more than 8 MiB"),
    ],
)
def test_what_could_not_boot_is_refused_before_it_is_sent(data, why):
    with pytest.raises(snapshot.SnapshotError, match=why):
        measure(lambda: pieces(data), ImageLimits(max_unpacked_bytes=8 << 20))


@pytest.mark.parametrize(("size", "wanted"), [(1, 1), (1 << 30, 1), ((1 << 30) + 1, 2)])
def test_needed_disk(size, wanted):
    assert snapshot.needed_disk_gb(size) == wanted
