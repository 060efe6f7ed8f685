# SPDX-License-Identifier: Apache-2.0
"""The volume driver inside Cinder's own code; test_volume_driver.py runs it, in a process without Nova."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

import pytest
from cinder import context, exception, objects, utils
from cinder.interface import (
    util,
    volume_driver,
    volume_manageable_driver,
    volume_snapshot_revert,
    volume_snapshotmanagement_driver,
)
from cinder.volume import configuration, volume_types
from oslo_config import cfg

from dockstack.volume import file
from dockstack.volume.file import KIND, FileDriver

GIB = 1 << 30
REFUSED = exception.VolumeBackendAPIException

objects.register_all()


class Lab:
    """A driver with its pool, on whatever file system the tests' directory is."""

    def __init__(self, directory):
        self.root, self.pools = directory, 0
        self.directory = self.pool()
        self.driver = self.started(self.directory)

    def pool(self):
        self.pools += 1
        directory = self.root / f"pool{self.pools}"
        directory.mkdir(mode=0o700)
        return directory

    def started(self, directory):
        group = f"file{uuid.uuid4().hex[:6]}"
        config = configuration.Configuration(FileDriver.get_driver_options(), config_group=group)
        cfg.CONF.set_override("file_pool", str(directory), group=group)
        made = FileDriver(execute=utils.execute, configuration=config, host="node1@file")
        made.do_setup(None)
        made.check_for_setup_error()
        return made

    def volume(self, size=1, *, make=True, attach_status="detached", **given):
        given = {"migration_status": None, **given}
        volume = objects.Volume(id=str(uuid.uuid4()), _name_id=None, size=size, attach_status=attach_status, **given)
        if make:
            self.driver.create_volume(volume)
        return volume

    def snapshot(self, volume):
        snapshot = objects.Snapshot(id=str(uuid.uuid4()), volume=volume)
        self.driver.create_snapshot(snapshot)
        return snapshot

    def file(self, thing, directory=None):
        return (directory or self.directory) / thing.name

    def write(self, thing, text, at=0):
        with self.file(thing).open("r+b") as opened:
            opened.seek(at)
            opened.write(text)

    def read(self, thing, length, at=0):
        with self.file(thing).open("rb") as opened:
            opened.seek(at)
            return opened.read(length)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.mark.parametrize(
    "contract",
    [
        volume_driver.VolumeDriverCore,
        volume_manageable_driver.VolumeListManageableDriver,
        volume_snapshotmanagement_driver.VolumeSnapshotManagementDriver,
        volume_snapshot_revert.VolumeSnapshotRevertDriver,
    ],
)
def test_contract(contract):
    """What cinder/tests/compliance asks of each driver, and of what this one does besides."""
    assert issubclass(FileDriver, contract)
    assert util.DriverInfo(FileDriver).class_fqn == KIND


def test_a_volume_is_a_private_sparse_file(lab):
    found = lab.file(lab.volume(2)).stat()
    assert (found.st_size, found.st_blocks, stat.S_IMODE(found.st_mode)) == (2 * GIB, 0, 0o600)


def test_deletion_is_idempotent(lab):
    volume = lab.volume()
    snapshot = lab.snapshot(volume)
    for _ in range(2):
        lab.driver.delete_snapshot(snapshot)
        lab.driver.delete_volume(volume)
    assert lab.driver.pool.files() == {}


def test_a_snapshot_stays_as_it_was_and_is_what_a_volume_is_made_of(lab):
    volume = lab.volume()
    lab.write(volume, b"before", at=GIB - 6)
    snapshot = lab.snapshot(volume)
    lab.write(volume, b"after!", at=GIB - 6)
    larger = lab.volume(2, make=False)
    lab.driver.create_volume_from_snapshot(larger, snapshot)
    assert lab.read(larger, 6, at=GIB - 6) == b"before"
    assert lab.file(larger).stat().st_size == 2 * GIB
    assert lab.file(larger).stat().st_blocks < 1000, "a copy keeps its holes"
    lab.driver.revert_to_snapshot(None, volume, snapshot)
    assert lab.read(volume, 6, at=GIB - 6) == b"before"


def test_a_volume_keeps_its_size_when_it_goes_back_to_a_smaller_snapshot(lab):
    volume = lab.volume()
    snapshot = lab.snapshot(volume)
    volume.size = 3
    lab.driver.extend_volume(volume, 3)
    lab.driver.revert_to_snapshot(None, volume, snapshot)
    assert lab.file(volume).stat().st_size == 3 * GIB


def test_a_clone_is_apart(lab):
    volume, clone = lab.volume(), lab.volume(make=False)
    lab.write(volume, b"one")
    lab.driver.create_cloned_volume(clone, volume)
    lab.write(volume, b"two")
    assert lab.read(clone, 3) == b"one"


def test_a_volume_grows_where_it_is_and_never_shrinks(lab):
    volume = lab.volume(2)
    with lab.file(volume).open("rb") as held:
        lab.driver.extend_volume(volume, 3)
        assert os.fstat(held.fileno()).st_size == 3 * GIB
    lab.driver.extend_volume(volume, 1)
    assert lab.file(volume).stat().st_size == 3 * GIB


def test_a_start_repairs_an_extension_that_was_killed(lab):
    volume = lab.volume()
    volume.size = 2
    lab.driver.ensure_export(None, volume)
    assert lab.file(volume).stat().st_size == 2 * GIB


def test_a_volume_in_use_has_no_torn_copies(lab):
    volume = lab.volume(attach_status="attached")
    clone = lab.volume(make=False)
    if lab.driver.pool.clones:
        lab.driver.create_cloned_volume(clone, volume)
        return
    with pytest.raises(exception.InvalidVolume, match="reflinks"):
        lab.driver.create_cloned_volume(clone, volume)
    with pytest.raises(exception.InvalidVolume, match="reflinks"):
        lab.snapshot(volume)
    with pytest.raises(exception.InvalidVolume, match="reflinks"):
        lab.driver.copy_volume_to_image(None, volume, None, {})
    assert set(lab.driver.pool.files()) == {volume.name}


def test_whoever_attaches_waits_for_a_copy(lab, monkeypatch):
    volume = lab.volume()
    lab.driver.pool.clones = False
    monkeypatch.setattr(file, "PATIENCE", 0)
    with lab.driver._still(volume), pytest.raises(REFUSED, match="being copied"):
        lab.driver.initialize_connection(volume, {})
    assert lab.driver.initialize_connection(volume, {})["data"]["device_path"] == str(lab.file(volume))


def test_a_connection_is_a_path_and_a_snapshot_is_only_read(lab):
    volume = lab.volume()
    found = lab.driver.initialize_connection(volume, {"host": "node1"})
    data = {"device_path": str(lab.file(volume)), "access_mode": "rw"}
    assert found == {"driver_volume_type": "local", "data": data}
    snapshot = lab.snapshot(volume)
    lab.driver.create_export_snapshot(None, snapshot, {})  # as for a backup
    found = lab.driver.initialize_connection_snapshot(snapshot, {})
    assert found["data"] == {"device_path": str(lab.file(snapshot)), "access_mode": "ro"}
    lab.driver.terminate_connection_snapshot(snapshot, {}, force=False)
    lab.driver.remove_export_snapshot(None, snapshot)


def test_a_volume_has_its_size_again_when_a_backup_was_restored_to_it(lab):
    """cinder-backup opens the file for writing, which truncates it, and passes over zeros."""
    volume = lab.volume()
    for end in (lab.driver.terminate_connection, lab.driver.initialize_connection):
        lab.file(volume).write_bytes(b"restored")
        end(volume, {})
        assert (lab.file(volume).stat().st_size, lab.read(volume, 8)) == (GIB, b"restored")
    lab.driver.delete_volume(volume)
    lab.driver.terminate_connection(volume, {})


def test_a_missing_file_is_an_error_that_names_it(lab):
    volume = lab.volume(make=False)
    for call in (
        lambda: lab.driver.initialize_connection(volume, {}),
        lambda: lab.driver.extend_volume(volume, 2),
        lambda: lab.snapshot(volume),
    ):
        with pytest.raises(REFUSED, match=f"{volume.name} is missing"):
            call()
    assert lab.driver.pool.files() == {}


def test_what_a_killed_run_left_is_gone_after_a_start(lab):
    left = lab.directory / ".volume-1.new"
    left.write_text("half")
    os.close(lab.driver.pool._lock)
    lab.started(lab.directory)
    assert not left.exists()


def test_a_copy_that_fails_leaves_what_was_there(lab):
    volume = lab.volume()
    snapshot = lab.snapshot(volume)
    lab.write(volume, b"kept")

    def fail(*command):
        if command[0] == "cp":
            Path(command[-1]).write_text("half")
            raise OSError

    lab.driver.pool._run = fail
    with pytest.raises(OSError):
        lab.driver.revert_to_snapshot(None, volume, snapshot)
    assert lab.read(volume, 4) == b"kept"
    assert list(lab.directory.glob(".*.new")) == []


def test_a_pool_is_one_process_s_and_closed_to_others(lab):
    with pytest.raises(REFUSED, match="Another process"):
        lab.started(lab.directory)
    opened = lab.pool()
    opened.chmod(0o755)
    with pytest.raises(REFUSED, match="open to all users"):
        lab.started(opened)


def test_a_file_of_the_pool_becomes_a_volume_and_nothing_else_does(lab, monkeypatch):
    (lab.directory / "old-disk").write_bytes(b"data")
    (lab.directory / "link").symlink_to("/etc/passwd")
    volume = lab.volume(make=False)
    for name in ("link", "../pool1/old-disk", ".lock", "none", "", None):
        with pytest.raises(exception.ManageExistingInvalidReference):
            lab.driver.manage_existing_get_size(volume, {"source-name": name})
    reference = {"source-name": "old-disk"}
    assert lab.driver.manage_existing_get_size(volume, reference) == 1
    listed = lab.driver.get_manageable_volumes([], None, 10, 0, ["size"], ["asc"])
    assert [each["reference"] for each in listed] == [reference]
    lab.driver.manage_existing(volume, reference)
    assert (lab.read(volume, 4), lab.file(volume).stat().st_size) == (b"data", GIB)
    monkeypatch.setattr(objects.Volume, "exists", lambda _context, found: found == volume.id)
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        lab.driver.manage_existing(lab.volume(make=False), {"source-name": volume.name})


def test_a_volume_moves_to_another_pool_of_this_machine_only(lab):
    volume = lab.volume()
    lab.write(volume, b"data")
    elsewhere = lab.pool()

    def moved(info):
        return lab.driver.migrate_volume(None, volume, {"capabilities": {"location_info": info}})[0]

    here = lab.driver.get_volume_stats(refresh=True)["pools"][0]["location_info"]
    assert moved(here)
    assert lab.file(volume).exists(), "it is there already"
    assert not moved(f"{KIND}:another-machine:{elsewhere}")
    assert not moved("")
    assert moved(here.replace(str(lab.directory), str(elsewhere)))
    assert not lab.file(volume).exists()
    with lab.file(volume, elsewhere).open("rb") as there:
        assert there.read(4) == b"data"


def test_statistics_count_what_was_promised(lab):
    lab.volume(3)
    (pool,) = lab.driver.get_volume_stats(refresh=True)["pools"]
    assert pool["provisioned_capacity_gb"] == 3
    assert 0 < pool["free_capacity_gb"] < pool["total_capacity_gb"]
    assert pool["multiattach"]
    assert pool["thin_provisioning_support"]


@pytest.fixture
def types(monkeypatch):
    """Types of volumes that are encrypted by themselves, told apart by Cinder."""
    found = [str(uuid.uuid4()) for _ in range(3)]
    encryption = {kind: {"cipher": name} for kind, name in zip(found, (None, "one", "two"), strict=True)}
    monkeypatch.setattr(volume_types, "get_volume_type_encryption", lambda _context, kind: encryption[kind])
    return found


def test_cinders_encryptor_never_gets_the_name_of_a_file(lab, types, monkeypatch):
    """It puts a link in its place, by which the data is gone."""
    attached = []
    monkeypatch.setattr(FileDriver, "_attach_volume", lambda *_arguments, **_: attached.append("volume"))
    plain, secret, other = (lab.volume(volume_type_id=kind) for kind in types)
    with pytest.raises(exception.ImageCopyFailure, match="Create an empty volume"):
        lab.driver.copy_image_to_encrypted_volume(None, secret, None, "image")
    admin = context.get_admin_context()
    for source, destination in ((plain, secret), (secret, plain), (secret, other)):
        with pytest.raises(exception.VolumeMigrationFailed, match="Create an empty volume"):
            lab.driver.before_volume_copy(admin, source, destination, remote="dest")
    lab.driver.before_volume_copy(admin, secret, secret, remote="dest")
    assert not attached


def test_nor_from_another_backend_whose_volume_is_retyped(lab, types, monkeypatch):
    plain, secret = (lab.volume(volume_type_id=kind) for kind in types[:2])
    known = {volume.id: volume for volume in (plain, secret)}
    monkeypatch.setattr(objects.Volume, "get_by_id", lambda _context, identity: known[identity])
    volume = lab.volume(volume_type_id=types[1], migration_status=f"target:{plain.id}")
    with pytest.raises(exception.VolumeMigrationFailed, match="encryption would change"):
        lab.driver.initialize_connection(volume, {"host": "controller"})
    assert lab.driver.initialize_connection(volume, {"host": "node1", "mountpoint": "/dev/vdb"}), "hosts decrypt"
    volume.migration_status = f"target:{secret.id}"
    assert lab.driver.initialize_connection(volume, {"host": "controller"}), "the same bytes"


def test_an_upload_reads_the_volume_as_its_own_user(lab, monkeypatch):
    asked = []

    def upload(_context, _service, _meta, path, _volume, **options):
        asked.append((Path(path).parent, options["run_as_root"]))

    monkeypatch.setattr(file.volume_utils, "upload_volume", upload)
    volume = lab.volume()
    lab.driver.copy_volume_to_image(None, volume, None, {})
    assert asked == [(lab.directory, False)]
    assert set(lab.driver.pool.files()) == {volume.name}
