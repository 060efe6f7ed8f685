# SPDX-License-Identifier: Apache-2.0
"""What people push and pull with, against the registry: our own client, skopeo, podman; in the clear and over TLS."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from types import ModuleType, SimpleNamespace

import openstack
import pytest
from registry_user import glance_image, needs

import image_archives
from dockstack.oci.distribution.client import Account, Client
from dockstack.oci.normalise import normalise
from dockstack.oci.remote.addresses import RegistryError
from dockstack.oci.streams import ImageLimits
from held_ports import hold_port, port_of
from tls_proxy import OUTSIDE, tls_proxy

pytestmark = pytest.mark.functional


def test_our_own_client_pushes_and_pulls(cloud, alice, name, tmp_path):
    data = image_archives.oci_archive([image_archives.sample_layer("ours")])
    client = Client(Account(cloud.url, cloud.token(cloud.alice)), name)
    with normalise([data], architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as checked:
        pushed = client.push(checked.stream(), "1.0")
        expected = checked.engine_id
    output = io.BytesIO()
    assert client.pull("1.0", "x86_64", output) == pushed
    with normalise([output.getvalue()], architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as checked:
        assert checked.engine_id == expected
    with pytest.raises(RegistryError):
        client.pull("not-there", "x86_64", io.BytesIO())


@needs("skopeo")
def test_skopeo_pushes_and_pulls(cloud, name, tmp_path):
    (tmp_path / "image.tar").write_bytes(image_archives.oci_archive([image_archives.sample_layer("skopeo")]))
    credentials = f"{cloud.alice.credential}:{cloud.alice.password}"
    there = f"docker://{cloud.host}/{name}:1.0"
    skopeo = ["skopeo", "--insecure-policy"]
    push = [*skopeo, "copy", "--dest-tls-verify=false", f"--dest-creds={credentials}"]
    subprocess.run([*push, f"oci-archive:{tmp_path}/image.tar", there], check=True, capture_output=True, timeout=120)
    pull = [*skopeo, "copy", "--src-tls-verify=false", f"--src-creds={credentials}"]
    subprocess.run([*pull, there, f"dir:{tmp_path}/out"], check=True, capture_output=True, timeout=120)
    assert (tmp_path / "out" / "manifest.json").exists()


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, **more)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def encrypted(cloud, tmp_path, monkeypatch):
    """The registry behind the proxy that ends TLS: where it is, and the directory of certificates that clients want."""
    if os.geteuid() != 0:
        pytest.skip("the proxy becomes another user, which only root can")
    trusted = tmp_path / "certs.d"
    trusted.mkdir()
    with closing(hold_port()) as held, tls_proxy(tmp_path, monkeypatch, registry=port_of(held)) as (_, authority):
        port = port_of(held)
        (trusted / "ca.crt").write_text(authority)
        cloud.start_another(port, f"https://{OUTSIDE}:{port}")
        yield f"{OUTSIDE}:{port}", trusted
        cloud.kill("another")


@needs("haproxy", "skopeo", "podman")
def test_skopeo_and_podman_push_and_pull_over_tls(cloud, encrypted, name, tmp_path):
    host, trusted = encrypted
    archive, auth = tmp_path / "image.tar", tmp_path / "auth.json"
    archive.write_bytes(image_archives.oci_archive([image_archives.sample_layer("over TLS")]))
    credentials = f"{cloud.alice.credential}:{cloud.alice.password}"
    push = ["skopeo", "--insecure-policy", "copy", f"--dest-creds={credentials}", f"oci-archive:{archive}"]
    there = f"{host}/{name}:1.0"
    untrusting = subprocess.run([*push, f"docker://{there}"], capture_output=True, timeout=120, check=False)
    assert (untrusting.returncode != 0, b"certificate" in untrusting.stderr) == (True, True), untrusting.stderr
    run(*push, f"docker://{there}", f"--dest-cert-dir={trusted}")
    image = glance_image(cloud, name)
    common = [f"--authfile={auth}", f"--cert-dir={trusted}"]
    with tempfile.TemporaryDirectory(prefix="p-") as place:  # the name may have no more than 50 characters
        podman = ["podman", f"--root={place}/s", f"--runroot={place}/r", "--storage-driver=vfs"]
        login = [*podman, "login", *common, "--password-stdin", f"--username={cloud.alice.credential}", host]
        run(*login, input=cloud.alice.password.encode())
        run(*podman, "pull", *common, there)
        run(*podman, "push", *common, there, f"{host}/{name}-again:1.0")
    again = glance_image(cloud, f"{name}-again")
    assert (again["status"], again["oci_config_digest"]) == ("active", image["oci_config_digest"])


def test_the_exercises_of_verify_hold_here(cloud, monkeypatch):
    """All but the servers, for which there is no Nova here."""
    monkeypatch.setitem(sys.modules, "websocket", ModuleType("websocket"))  # other exercises want it
    from dockstack.verify.context import Context  # noqa: PLC0415
    from dockstack.verify.exercises import registry  # noqa: PLC0415

    connection = openstack.connect(
        load_yaml_config=False,
        auth_url=cloud.keystone.url,
        username="alice",
        password=cloud.alice.password,
        project_name="demo",
        user_domain_name="Default",
        project_domain_name="Default",
        region_name="R",
    )
    data = image_archives.oci_archive([image_archives.sample_layer("booted")])
    booted = connection.image.create_image(
        "booted", data=data, container_format="docker", disk_format="raw", validate_checksum=False
    )
    guests = []
    image = connection.image.get_image
    monkeypatch.setattr(registry, "make_guest", lambda _, image_id: guests.append(image(image_id)))
    facts = SimpleNamespace(image_id=booted.id)
    for exercise in (registry.REGISTRY, registry.REFERENCE):
        ctx = Context(connection, facts, exercise.name, lambda text: None)
        with ctx.stack:
            exercise.run(ctx)
    pushed, pointer = guests
    assert pushed.size > pointer.size > 0
    assert not list(connection.image.images(name=pushed.name)), "the exercise takes back what it makes"
    connection.image.delete_image(booted.id)
