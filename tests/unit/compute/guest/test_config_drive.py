# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.guest import config_drive
from dockstack.compute.guest.config_drive import DriveError

pytestmark = pytest.mark.unit

UUID = "22222222-2222-2222-2222-222222222222"
CONTENT = {"openstack/latest/meta_data.json": b"{}", "openstack/content/0000": b"x"}


def read(directory) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_nobody_else_can_read_a_drive(tmp_path) -> None:
    drives = tmp_path / "drives"
    directory = config_drive.write(drives, UUID, CONTENT)
    assert read(directory) == CONTENT
    assert config_drive.find(drives, UUID) == directory
    everything = [drives, directory, *directory.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in everything} == {0}


def test_a_rebuilt_server_gets_a_new_drive(tmp_path) -> None:
    config_drive.write(tmp_path, UUID, CONTENT | {"old": b"x"})
    assert read(config_drive.write(tmp_path, UUID, CONTENT)) == CONTENT
    assert config_drive.present(tmp_path) == (UUID,)


def test_what_an_interrupted_write_left_is_found_and_removed(tmp_path) -> None:
    (tmp_path / f"{UUID}.new").mkdir()
    assert config_drive.find(tmp_path, UUID) is None
    assert config_drive.present(tmp_path) == (UUID,)
    config_drive.remove(tmp_path, UUID)
    assert config_drive.present(tmp_path) == ()
    config_drive.remove(tmp_path, UUID)


def test_there_may_be_no_drives_at_all(tmp_path) -> None:
    assert config_drive.present(tmp_path / "none") == ()
    config_drive.remove(tmp_path / "none", UUID)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_a_drive_has_nothing_outside_itself(tmp_path, name) -> None:
    with pytest.raises(DriveError, match="cannot hold"):
        config_drive.write(tmp_path / "drives", UUID, {name: b"x"})
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_said_plainly(tmp_path, monkeypatch) -> None:
    (tmp_path / "drives").write_text("a file, no directory")
    with pytest.raises(DriveError, match="could not be written"):
        config_drive.write(tmp_path / "drives", UUID, CONTENT)
