# SPDX-License-Identifier: Apache-2.0
"""``dockstack image``: what is bad is refused before a cloud is asked."""

from __future__ import annotations

import json
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from dockstack.cli import image as command
from dockstack.cli import image_registry
from dockstack.deploy.base_image import base
from dockstack.deploy.base_image.glance import Imported
from dockstack.deploy.system_image.recipe import Recipe
from dockstack.errors import DockstackError
from dockstack.oci.documents import Platform
from image_archives import HOSTILE, docker_save, sample_layer

pytestmark = pytest.mark.unit


@pytest.fixture
def cloud(monkeypatch):
    """A cloud that remembers what it was given."""
    given = []

    def take(connection, upload, progress):
        given.append((upload.name, upload.public, b"".join(upload.open())))
        return Imported("1", upload.name, uploaded=True, replaced=("0",))

    monkeypatch.setattr(command.glance, "import_image", take)
    monkeypatch.setattr(command, "architecture", lambda: "amd64")
    monkeypatch.setattr(command, "_connect", lambda name: SimpleNamespace(image=SimpleNamespace(images=list)))
    return given


def run(*words: str, data: bytes = b"") -> str:
    result = CliRunner().invoke(command.image, words, input=data)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_sound_archive_is_uploaded_as_it_is(cloud, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(docker_save([sample_layer()]))
    output = run("import", str(path), "--name", "one", "--public")
    assert cloud == [("one", True, path.read_bytes())]
    assert "uploaded" in output
    assert "0  is hidden now" in output


def test_a_reference_is_one_line_and_never_fetched(cloud, monkeypatch):
    records = []
    take = command.glance.import_image

    def note(connection, upload, progress):
        records.append(upload.record())
        return take(connection, upload, progress)

    monkeypatch.setattr(command.glance, "import_image", note)
    run("create-ref", "one", "registry.example:5000/team/app:1", "--platform", "linux/arm64", "--pull", "missing")
    assert cloud == [("one", False, b"registry.example:5000/team/app:1\n")]
    [record] = records
    assert record["container_format"] == "dockerref"
    assert (record["docker_platform"], record["docker_pull_policy"]) == ("linux/arm64", "missing")


def test_what_is_no_reference_is_refused(cloud):
    with pytest.raises(DockstackError, match="no image reference"):
        run("create-ref", "one", "Not A Reference")
    assert cloud == []


def test_the_base_image_goes_to_the_cloud_that_was_named(cloud, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "_connect", lambda name: asked.append(name) or name)
    monkeypatch.setattr(
        command.glance, "import_base", lambda connection, _: Imported("7", "dockstack-base", uploaded=False)
    )
    assert "7  dockstack-base  was there already, with the same content" in run("base", "--os-cloud", "devstack-admin")
    assert asked == ["devstack-admin"]


def test_standard_input_is_taken(cloud):
    run("import", "-", "--name", "one", data=docker_save([sample_layer()]))
    assert cloud[0][2] == docker_save([sample_layer()])


@pytest.mark.parametrize("name", ["empty", "traversal-in-layer", "two-images", "wrong-layer", "some-tar", "cut-gzip"])
def test_a_bad_archive_never_reaches_the_cloud(cloud, name):
    with pytest.raises(DockstackError, match=HOSTILE[name][1]):
        run("import", "-", "--name", "one", data=HOSTILE[name][0]())
    assert cloud == []


def test_a_missing_file_is_said(cloud):
    with pytest.raises(DockstackError, match="There is no file"):
        run("import", "/nonexistent", "--name", "one")


def test_an_empty_list_is_a_list(cloud):
    assert json.loads(run("list", "--json")) == []


def test_an_unknown_cloud_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none.yaml"))
    with pytest.raises(DockstackError, match="no cloud 'nowhere'") as caught:
        run("list", "--os-cloud", "nowhere")
    assert caught.value.resolution


@pytest.fixture
def built(monkeypatch):
    """What the builder of system images was asked for; the image is a small one."""
    asked = []

    def make(recipe, mirrors, progress):
        progress("Installing packages", 1, 2)
        asked.append((recipe, mirrors))
        return base.of_tree({"etc": base.Entry(0o755)}, Platform("linux", "amd64"))

    monkeypatch.setattr(command, "build_system", make)
    monkeypatch.setattr(command, "default_mirrors", lambda archive: archive or "the machine's")
    return asked


def test_a_system_image_goes_to_the_cloud_with_one_command(cloud, built, monkeypatch):
    uploads = []

    def take(connection, upload, progress):
        uploads.append(upload)
        return Imported("1", upload.name, uploaded=True)

    monkeypatch.setattr(command.glance, "import_image", take)
    run("build", "debian", "--suite", "trixie", "--packages", "nginx,redis", "--packages", "git", "--import")
    assert built == [(Recipe("trixie", "amd64", ("nginx", "redis", "git")), "the machine's")]
    record = uploads[0].record()
    assert uploads[0].name == "debian-trixie"
    assert (record["hw_vm_mode"], record["img_hv_type"], record["hw_architecture"]) == ("exe", "docker", "x86_64")
    assert (record["os_distro"], record["os_admin_user"], record["min_disk"]) == ("debian", "debian", 1)
    assert record["min_ram"] >= 64


def test_a_system_image_goes_to_a_file(cloud, built, tmp_path):
    output = tmp_path / "x.tar"
    run("build", "debian", "--mirror", "http://mirror.example.org/debian", "-o", str(output))
    assert output.stat().st_size > 1024
    assert built[0][1] == "http://mirror.example.org/debian"
    assert cloud == []


@pytest.mark.parametrize(
    "words", [("--packages", "git"), ("--import",), ("--public",), ("--mirror", "http://x"), ("--name", "x")]
)
def test_the_base_image_takes_no_options_of_system_images(built, words):
    with pytest.raises(DockstackError, match="for system images"):
        run("build", *words)


@pytest.mark.parametrize("words", [("push", "FILE", "web:1"), ("pull", "web:1", "-o", "-")], ids=lambda words: words[0])
def test_a_cloud_without_a_registry_says_what_does_instead(words, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(docker_save([sample_layer()]))
    connection = SimpleNamespace(
        session=SimpleNamespace(get_endpoint=lambda **_: None), current_project=SimpleNamespace(name="demo")
    )
    group = click.Group("image")
    image_registry.register(group, click.option("--os-cloud", default=""), lambda _: connection)
    result = CliRunner().invoke(group, [str(path) if word == "FILE" else word for word in words])
    assert isinstance(result.exception, DockstackError)
    assert "no registry" in result.exception.brief
    assert "2026.1" in result.exception.resolution
    assert "dockstack image import" in result.exception.resolution
