# SPDX-License-Identifier: Apache-2.0
"""The rows of the support matrix, as data."""

from __future__ import annotations

import pytest

from dockstack.compute.support import Feature, Status, load, tempest_flags

pytestmark = pytest.mark.unit

# nova 34.0.0, doc/source/user/support-matrix.ini
NOVAS_ROWS = 59
# tempest 47.0.0, the flags of [compute-feature-enabled] that depend on the driver
DRIVERS_FLAGS = {
    "attach_encrypted_volume",
    "block_migration_for_live_migration",
    "change_password",
    "cold_migration",
    "config_drive",
    "console_output",
    "ide_bus",
    "interface_attach",
    "live_migrate_back_and_forth",
    "live_migration",
    "metadata_service",
    "pause",
    "personality",
    "rescue",
    "resize",
    "serial_console",
    "shelve",
    "shelve_migrate",
    "snapshot",
    "spice_console",
    "stable_rescue",
    "suspend",
    "swap_volume",
    "vnc_console",
    "volume_backed_live_migration",
    "volume_multiattach",
    "vtpm_live_migration",
}


def feature(key, status, *flags):
    return Feature(key, key, Status(status), "why", tempest=flags)


def test_every_row_of_novas_matrix_is_here_once():
    assert len([row for row in load() if row.is_novas]) == NOVAS_ROWS


def test_every_row_says_how_or_why_not():
    assert [row.key for row in load() if not row.notes.endswith(".") or not row.title] == []


def test_rows_decide_on_every_flag_that_depends_on_the_driver():
    assert set(tempest_flags(load())) == DRIVERS_FLAGS


def test_a_flag_is_on_if_no_row_that_names_it_is_missing():
    rows = [feature("a", "complete", "x", "y"), feature("b", "partial", "x"), feature("c", "missing", "y", "z")]
    assert tempest_flags(rows) == {"x": True, "y": False, "z": False}
