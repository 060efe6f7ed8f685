# SPDX-License-Identifier: Apache-2.0
"""More of what people push and pull with, against the registry: docker, containerd's ctr, buildah, Python's oras."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from registry_user import glance_image, needs

import image_archives

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.geteuid() != 0, reason="engines of its own need root"),
]

LAYER = image_archives.sample_layer("more clients")
ENGINE_ID = f"sha256:{image_archives.sha256(image_archives.config([LAYER]))}"
SECONDS = 120


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, **more)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@contextmanager
def started(command, socket: Path):
    """Run a daemon until it listens; end it, and what it started, afterwards."""
    log = socket.with_suffix(".log")
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as daemon:
        try:
            deadline = time.monotonic() + SECONDS
            while not socket.exists():
                assert daemon.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)  # until it listens
            yield
        finally:
            daemon.terminate()
            daemon.wait(SECONDS)


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="c-") as directory:  # a socket's path has no more than 107 characters
        yield Path(directory)


@needs("docker", "dockerd", "containerd")
def test_docker_logs_in_pushes_and_pulls(cloud, name, place):
    socket, here = place / "d.sock", f"{cloud.host}/{name}:1.0"
    daemon = [
        *("dockerd", f"--host=unix://{socket}", f"--data-root={place}/data", f"--exec-root={place}/run"),
        *(f"--pidfile={place}/pid", "--storage-driver=vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"),
    ]
    docker = ["docker", f"--config={place}/config", f"--host=unix://{socket}"]
    with started(daemon, socket):
        run(*docker, "load", input=image_archives.docker_save([LAYER]))
        run(*docker, "tag", ENGINE_ID, here)
        refused = subprocess.run([*docker, "push", here], capture_output=True, timeout=SECONDS, check=False)
        assert refused.returncode != 0, "nobody has logged in"
        login = [*docker, "login", f"--username={cloud.alice.credential}", "--password-stdin", cloud.host]
        run(*login, input=cloud.alice.password.encode())
        run(*docker, "push", here)
        image = glance_image(cloud, name)
        assert (image["status"], image["oci_config_digest"]) == ("active", ENGINE_ID)
        run(*docker, "rmi", here)
        run(*docker, "pull", here)
        assert run(*docker, "inspect", "--format={{.Id}}", here).strip() == ENGINE_ID


@needs("containerd", "ctr")
def test_containerd_pushes_and_pulls(cloud, name, place):
    socket, there = place / "c.sock", f"{cloud.host}/{name}:1.0"
    settings = ["version = 2", f'root = "{place}/root"', f'state = "{place}/state"']
    settings += ['disabled_plugins = ["io.containerd.grpc.v1.cri"]', "[grpc]", f'address = "{socket}"']
    (place / "config.toml").write_text("\n".join(settings))
    archive = place / "image.tar"
    archive.write_bytes(image_archives.oci_archive([LAYER]))
    user = ["--plain-http", f"--user={cloud.alice.credential}:{cloud.alice.password}"]
    ctr = ["ctr", f"--address={socket}", "images"]
    with started(["containerd", f"--config={place}/config.toml"], socket):
        run(*ctr, "import", "--no-unpack", f"--index-name={there}", str(archive))
        run(*ctr, "push", *user, there)
        assert glance_image(cloud, name)["status"] == "active"  # an index, with this image in it
        run(*ctr, "rm", "--sync", there)
        run("ctr", f"--address={socket}", "content", "fetch", *user, there)
        assert ENGINE_ID in run("ctr", f"--address={socket}", "content", "ls")


@needs("buildah")
def test_buildah_pushes_an_index_and_pulls(cloud, name, place):
    (place / "image.tar").write_bytes(image_archives.oci_archive([LAYER]))
    policy = place / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    buildah = ["buildah", f"--root={place}/s", f"--runroot={place}/r", "--storage-driver=vfs"]
    common = [f"--signature-policy={policy}", "--tls-verify=false"]
    common += [f"--creds={cloud.alice.credential}:{cloud.alice.password}"]
    here = run(*buildah, "pull", f"--signature-policy={policy}", f"oci-archive:{place}/image.tar").strip()
    run(*buildah, "manifest", "create", "list", here)
    run(*buildah, "manifest", "push", "--all", *common, "list", f"docker://{cloud.host}/{name}:1.0")
    assert glance_image(cloud, name)["status"] == "active"
    run(*buildah, "rmi", "--all", "--force")
    assert run(*buildah, "pull", *common, f"docker://{cloud.host}/{name}:1.0").strip() == ENGINE_ID.partition(":")[2]


def test_oras_pushes_and_pulls_an_artifact_in_pieces(cloud, name, place, monkeypatch):
    client = pytest.importorskip("oras.client", reason="oras is not installed")
    monkeypatch.chdir(place)
    oras = client.OrasClient(hostname=cloud.host, insecure=True, auth_backend="token")
    oras.auth.set_basic_auth(cloud.alice.credential, cloud.alice.password)
    content = bytes(range(256)) * 5000
    (place / "sbom.bin").write_bytes(content)
    pushed = oras.push(
        f"{cloud.host}/{name}:1.0", files=["sbom.bin:application/x"], do_chunked=True, chunk_size=1 << 19
    )
    assert pushed.status_code == 201
    (place / "sbom.bin").unlink()
    (got,) = oras.pull(f"{cloud.host}/{name}:1.0", outdir=str(place / "out"))
    assert Path(got).read_bytes() == content
