# SPDX-License-Identifier: Apache-2.0
"""Images into volumes and back by Cinder's own code and programs, as one who may not become root.

test_volume_driver.py runs it, in a process without Nova.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import pytest

from dockstack.deploy.payload import cinder_volume  # isort: skip - first: it prepares Python for Cinder's threads
from cinder import exception, objects, utils
from cinder.image import image_utils
from cinder.volume import throttling
from oslo_config import cfg
from oslo_log import log
from volume_driver_case import GIB, Lab

from dockstack.deploy.configuration import cinder, privilege
from dockstack.volume.file import CONVERSION

ENVIRONMENT = types.SimpleNamespace(virtualenv=str(Path(sys.executable).parent.parent))
RAW = {"disk_format": "raw", "container_format": "bare"}


class Images(image_utils.glance.GlanceImageService):
    """One image, and what is uploaded."""

    def __init__(self, content, **image):
        super().__init__(client=object())
        self.content, self.uploaded = content, b""
        self.image = {"id": "image", "size": len(content), "properties": {}, **RAW, **image}

    def show(self, context, image_id):
        return self.image

    def download(self, context, image_id, data):
        data.write(self.content)

    def update(self, context, image_id, image_meta, data, **_):
        self.uploaded = data.read()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A driver in a cinder-volume of ours, with the section of privsep that ours has, as no root."""
    section = privilege.unprivileged_helper(ENVIRONMENT, cinder.USER)
    conf = tmp_path / "cinder.conf"
    command = section["helper_command"].replace(cinder.CONF, str(conf))
    lines = ["[DEFAULT]", f"state_path = {tmp_path}", "[cinder_sys_admin]", f"helper_command = {command}"]
    conf.write_text("\n".join([*lines, f"capabilities = {section['capabilities']}", ""]))
    cfg.CONF(["--config-file", str(conf)], project="cinder")
    monkeypatch.setattr(utils, "get_root_helper", utils.get_root_helper)
    monkeypatch.setattr(cinder_volume.volume, "main", lambda: None)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    cinder_volume.main()
    made = Lab(tmp_path)
    made.driver.set_throttle()
    return made


def create(lab, images, size=1):
    """Do what Cinder does with a volume that is made of an image (CreateVolumeFromSpecTask)."""
    volume = lab.volume(size)
    context = types.SimpleNamespace(user_id="user")
    with image_utils.TemporaryImages.fetch(images, context, "image") as found:
        image_utils.qemu_img_info(found)
        lab.driver.copy_image_to_volume(context, volume, images, "image")
    return volume


def tar_of(name, content):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def qcow2_of(tmp_path, content, *options):
    (tmp_path / "source").write_bytes(content)
    made = tmp_path / "made.qcow2"
    line = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(tmp_path / "source"), str(made)]
    subprocess.run(line, check=True)
    return made.read_bytes()


@pytest.mark.parametrize("container_format", ["bare", "docker"])
def test_a_raw_image_is_what_the_volume_begins_with(lab, container_format):
    content = tar_of("manifest.json", b"[]")
    volume = create(lab, Images(content, container_format=container_format))
    assert lab.read(volume, len(content)) == content
    assert lab.file(volume).stat().st_size == GIB


def test_a_qcow2_image_is_converted(lab, tmp_path):
    content = os.urandom(1 << 20)
    volume = create(lab, Images(qcow2_of(tmp_path, content), disk_format="qcow2"))
    assert lab.read(volume, len(content)) == content


def test_one_that_names_a_file_of_the_host_is_refused(lab, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret" * 1000)
    made = tmp_path / "evil.qcow2"
    backing = ["-b", str(tmp_path / "secret"), "-F", "raw"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(made), "1M"], check=True)
    with pytest.raises(exception.Invalid):
        create(lab, Images(made.read_bytes(), disk_format="qcow2"))
    assert all(b"secret" not in path.read_bytes()[:4096] for path in lab.directory.glob("volume-*"))


def test_one_that_is_larger_than_the_volume_is_refused(lab, tmp_path):
    made = tmp_path / "large.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(made), "2G"], check=True)
    with pytest.raises(exception.ImageUnacceptable, match="fit"):
        create(lab, Images(made.read_bytes(), disk_format="qcow2"))


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_volume_becomes_an_image(lab, tmp_path, disk_format):
    volume = lab.volume(volume_type=objects.VolumeType(extra_specs={}), glance_metadata={})
    lab.write(volume, b"from the volume")
    images = Images(b"")
    lab.driver.copy_volume_to_image(None, volume, images, {**images.image, "disk_format": disk_format})
    made = tmp_path / "uploaded"
    made.write_bytes(images.uploaded)
    line = ["qemu-img", "info", "--output=json", "-f", disk_format, str(made)]
    assert json.loads(subprocess.run(line, check=True, capture_output=True).stdout)["virtual-size"] == GIB
    plain = tmp_path / "plain"
    subprocess.run(["qemu-img", "convert", "-f", disk_format, "-O", "raw", str(made), str(plain)], check=True)
    with plain.open("rb") as opened:
        assert opened.read(15) == b"from the volume"


def test_programs_that_convert_have_limits(lab):
    with throttling.Throttle.get_default().subcommand("from", "to") as found:
        line = [*found["prefix"], "sh", "-c", "ulimit -H -t; ulimit -H -d; ulimit -H -c"]
    assert tuple(found["prefix"]) == CONVERSION
    assert subprocess.run(line, check=True, capture_output=True, text=True).stdout.split() == ["14400", "1048576", "0"]


def test_backups_that_do_not_start_are_said(monkeypatch):
    """Cinder's own main() of backups is not run here, which makes their log."""

    class Launcher:
        def launch_service(self, service):
            pass

    def create(binary, **_):
        if binary == "cinder-backup":
            raise exception.InvalidConfigurationValue(option="backup_driver", value="x")

    said = []
    monkeypatch.setattr(cinder_volume.service, "process_launcher", Launcher)
    monkeypatch.setattr(cinder_volume.service.Service, "create", create)
    monkeypatch.setattr(cinder_volume.volume, "_ensure_service_started", lambda: None)
    monkeypatch.setattr(cinder_volume.session, "dispose_engine", lambda: None)
    monkeypatch.setattr(cinder_volume.cfg.CONF, "enabled_backends", [], raising=False)
    monkeypatch.setattr(log.KeywordArgumentAdapter, "exception", lambda _, text, *__: said.append(text))
    with pytest.raises(SystemExit):
        cinder_volume.launch()
    assert said == ["Backup service %s failed to start."]
