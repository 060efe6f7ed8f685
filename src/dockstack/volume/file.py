# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG002, PLR0917 - the signatures are Cinder's
"""A Cinder backend whose volumes are files of a pool, for hosts that see the same directory.

``volume_driver = dockstack.volume.file.FileDriver``. It needs no root: the pool is cinder's own, and who attaches a
volume opens its file as root.
"""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cinder import context as cinder_context
from cinder import exception, interface, objects
from cinder.image import image_utils
from cinder.objects import fields
from cinder.volume import configuration as volume_configuration
from cinder.volume import driver, throttling, volume_types, volume_utils
from oslo_config import cfg
from oslo_log import log

from dockstack.volume.pool import Pool, PoolError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = log.getLogger(__name__)

OPTIONS = [
    cfg.StrOpt(
        "file_pool",
        default="/var/lib/cinder/volumes",
        help="Directory of the volumes of dockstack's FileDriver, closed to other users. Change it to have them on "
        "another file system; with reflinks (xfs, btrfs), snapshots of volumes in use are possible and take no room.",
    )
]
cfg.CONF.register_opts(OPTIONS, group=volume_configuration.SHARED_CONF_GROUP)

PATIENCE = 30.0  # seconds that an attachment waits for a copy; below Cinder's rpc_response_timeout, 60
_GIB = 1 << 30
KIND = "dockstack.volume.file.FileDriver"
# What a program may take that converts a stranger's image: seconds of a processor, and bytes of memory.
CONVERSION = ("prlimit", f"--cpu={4 * 3600}", f"--data={_GIB}", "--core=0")
_HOW_TO_ENCRYPT = "Create an empty volume of the type, attach it to a server, and copy what is to be in it there."


@interface.volumedriver
class FileDriver(driver.VolumeDriver):
    """Volumes and snapshots are sparse files of one directory."""

    VERSION = "1.0.0"
    CI_WIKI_NAME = "None"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self.pool = Pool(Path(self.configuration.file_pool), self._execute)
        self._copied: Counter[str] = Counter()

    @staticmethod
    def get_driver_options() -> list[Any]:
        """Return the options that this driver adds to a backend's."""
        return OPTIONS

    # -- start --------------------------------------------------------------------------------------------------------

    def do_setup(self, context: Any) -> None:
        """Make the pool ours; what a killed run had not finished goes."""
        with _told():
            left = self.pool.open()
        for name in left:
            LOG.warning("Removed %s, which was not finished", name)
        if not self.pool.clones:
            LOG.warning("%s has no reflinks: volumes in use have no snapshots and clones", self.pool.directory)

    def check_for_setup_error(self) -> None:
        """Look at nothing more: opening the pool has."""

    def set_throttle(self) -> None:
        """Have programs that convert images and copy volumes run within limits, unless an operator has set a rate."""
        super().set_throttle()
        if self._throttle is None:
            throttling.Throttle.set_default(throttling.Throttle(list(CONVERSION)))

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Have an attached volume of the size that Cinder thinks it has: a crash may have come in between."""
        self.extend_volume(volume, volume.size)

    # -- volumes ------------------------------------------------------------------------------------------------------

    def create_volume(self, volume: Any) -> None:
        """Make a file of zeros."""
        with _told():
            self.pool.create(volume.name, volume.size * _GIB)

    def delete_volume(self, volume: Any) -> None:
        """Remove its file."""
        self.pool.remove(volume.name)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grow its file where it is, also while it is attached."""
        with _told():
            self.pool.grow(volume.name, new_size * _GIB)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        """Copy a volume."""
        with self._still(src_vref):
            self._copy(src_vref.name, volume)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        """Copy a snapshot, which nobody writes to."""
        self._copy(snapshot.name, volume)

    def _copy(self, source: str, volume: Any) -> None:
        with _told():
            self.pool.size(source)
            self.pool.copy(self.pool.path(source), volume.name, volume.size * _GIB)

    @contextmanager
    def _still(self, volume: Any) -> Iterator[None]:
        """Have nobody write to a volume while its file is read bit by bit, or refuse.

        A clone is made at one moment, whoever writes, and needs none of this. Elsewhere a volume that is attached is
        refused, and one that is not is attached only when its copy is complete.

        Raises:
            cinder.exception.InvalidVolume: it is attached.
        """
        if not self.pool.clones and volume.attach_status != fields.VolumeAttachStatus.DETACHED:
            reason = (
                f"it is in use, and {self.pool.directory} has no reflinks, so a copy would be torn. Detach it first,"
                " or have the pool on a file system with reflinks (xfs, btrfs)."
            )
            raise exception.InvalidVolume(reason=reason)
        self._copied[volume.name] += 1
        try:
            yield
        finally:
            self._copied[volume.name] -= 1

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def create_snapshot(self, snapshot: Any) -> None:
        """Copy a volume as it is now."""
        volume = snapshot.volume
        with self._still(volume), _told():
            self.pool.size(volume.name)
            self.pool.copy(self.pool.path(volume.name), snapshot.name)

    def delete_snapshot(self, snapshot: Any) -> None:
        """Remove its file; volumes that were made of it have files of their own."""
        self.pool.remove(snapshot.name)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Put a copy of the snapshot in the volume's place, which keeps its size."""
        self._copy(snapshot.name, volume)

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """Tell Cinder not to save the volume first: it is there whole, until the copy of the snapshot is."""
        return False

    # -- connections --------------------------------------------------------------------------------------------------

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Do nothing: the file is there."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Do nothing."""

    def create_export_snapshot(self, context: Any, snapshot: Any, connector: Any) -> None:
        """Do nothing, as for a volume."""

    def remove_export_snapshot(self, context: Any, snapshot: Any) -> None:
        """Do nothing."""

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        """Tell where the file is, which whoever attaches it opens as root.

        Raises:
            cinder.exception.VolumeBackendAPIException: it is not there, or being copied, for longer than one can wait.
            cinder.exception.VolumeMigrationFailed: Cinder is about to copy another volume into it, encrypting that.
        """
        role, _, source = (volume.migration_status or "").partition(":")
        if role == "target" and "mountpoint" not in connector:  # which Nova says, and Cinder does not
            context = cinder_context.get_admin_context()
            _refuse_encryption(context, objects.Volume.get_by_id(context, source), volume)
        if not self.pool.clones and not wait_for(lambda: not self._copied[volume.name], PATIENCE, 0.5):
            raise exception.VolumeBackendAPIException(data=f"{volume.name} is being copied; try again later.")
        self.extend_volume(volume, volume.size)
        return self._connection(volume.name, "rw")

    def initialize_connection_snapshot(self, snapshot: Any, connector: Any, **_: Any) -> dict[str, Any]:
        """Tell where the file of a snapshot is, to be read."""
        return self._connection(snapshot.name, "ro")

    def _connection(self, name: str, mode: str) -> dict[str, Any]:
        with _told():
            self.pool.size(name)
        return {
            "driver_volume_type": "local",
            "data": {"device_path": str(self.pool.path(name)), "access_mode": mode},
        }

    def terminate_connection(self, volume: Any, connector: Any, **_: Any) -> None:
        """Have a volume of its size again; one whose file is gone is fine.

        Who restores a backup truncates the file, and ends behind the last byte that is not zero (cinder/backup).
        """
        with suppress(exception.VolumeBackendAPIException):
            self.extend_volume(volume, volume.size)

    def terminate_connection_snapshot(self, snapshot: Any, connector: Any, **_: Any) -> None:
        """Do nothing."""

    def secure_file_operations_enabled(self) -> bool:
        """Tell Cinder to open files as its own user, and never as root."""
        return True

    # -- images and backups -------------------------------------------------------------------------------------------

    def copy_image_to_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, disable_sparse: bool = False
    ) -> None:
        """Put an image, converted, in the place of the empty volume."""
        with _told(), self.pool.new(volume.name, volume.size * _GIB) as unfinished:
            image_utils.fetch_to_raw(
                context,
                image_service,
                image_id,
                str(unfinished),
                self.configuration.volume_dd_blocksize,
                size=volume.size,
                run_as_root=False,
                disable_sparse=disable_sparse,
            )

    def copy_image_to_encrypted_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, disable_sparse: bool = False
    ) -> None:
        """Refuse, as Cinder's encryptor would put a link to its device in the place of the volume's file.

        Raises:
            cinder.exception.ImageCopyFailure: always.
        """
        raise exception.ImageCopyFailure(reason=f"an image is not encrypted here. {_HOW_TO_ENCRYPT}")

    def copy_volume_to_image(self, context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any]) -> None:
        """Upload a volume; one that is in use as it is now."""
        with self._still(volume), _told(), self._frozen(volume) as path:
            volume_utils.upload_volume(
                context, image_service, image_meta, str(path), volume, run_as_root=False, compress=True
            )

    @contextmanager
    def _frozen(self, volume: Any) -> Iterator[Path]:
        """Yield a file with a volume's bytes of now, which is gone afterwards, or the volume's own without clones."""
        if not self.pool.clones:
            yield self.pool.path(volume.name)
            return
        name = f".{volume.name}.upload.new"  # what is left of it at the next start goes
        self.pool.copy(self.pool.path(volume.name), name)
        try:
            yield self.pool.path(name)
        finally:
            self.pool.remove(name)

    def backup_use_temp_snapshot(self) -> bool:
        """Tell Cinder to back up a snapshot as it is, and a volume in use by way of one."""
        return True

    # -- moves --------------------------------------------------------------------------------------------------------

    def retype(self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any) -> tuple[bool, None]:
        """Change a volume's type: its file is the same whatever that says."""
        return True, None

    def before_volume_copy(self, context: Any, src_vol: Any, dest_vol: Any, remote: Any = None) -> None:
        """Refuse a retype that encrypts, decrypts or encrypts otherwise, for which Cinder would copy by its encryptor.

        Raises:
            cinder.exception.VolumeMigrationFailed: it does.
        """
        _refuse_encryption(context, src_vol, dest_vol)

    def migrate_volume(self, context: Any, volume: Any, host: Any) -> tuple[bool, None]:
        """Move a volume that nobody has attached to another pool of this machine, or nowhere if that has the same."""
        kind, _, place = str(host["capabilities"].get("location_info", "")).partition(":")
        hostname, _, directory = place.partition(":")
        attached = volume.attach_status != fields.VolumeAttachStatus.DETACHED
        if attached or (kind, hostname) != (KIND, socket.gethostname()):
            return False, None
        if Path(directory) != self.pool.directory:
            with self._still(volume), _told():
                self.pool.size(volume.name)
                Pool(Path(directory), self._execute).copy(self.pool.path(volume.name), volume.name)
            self.pool.remove(volume.name)
        return True, None

    # -- files that were there before ---------------------------------------------------------------------------------

    def manage_existing(self, volume: Any, existing_ref: dict[str, Any]) -> None:
        """Make a file of the pool a volume."""
        self._adopt(existing_ref, volume.name, volume.size)

    def manage_existing_get_size(self, volume: Any, existing_ref: dict[str, Any]) -> int:
        """Return the GiB of a file, the last one in full."""
        return _gib(self._referred(existing_ref)[1])

    def manage_existing_snapshot(self, snapshot: Any, existing_ref: dict[str, Any]) -> None:
        """Make a file of the pool a snapshot."""
        self._adopt(existing_ref, snapshot.name, 0)

    def manage_existing_snapshot_get_size(self, snapshot: Any, existing_ref: dict[str, Any]) -> int:
        """Return the GiB of a file, the last one in full."""
        return _gib(self._referred(existing_ref)[1])

    def get_manageable_volumes(
        self,
        cinder_volumes: Any,
        marker: Any,
        limit: Any,
        offset: Any,
        sort_keys: Any,
        sort_dirs: Any,
    ) -> Any:
        """List the files of the pool that are volumes, or could be."""
        known = {volume.name: volume.id for volume in cinder_volumes}
        entries = [
            {
                "reference": {"source-name": name},
                "size": _gib(size),
                "safe_to_manage": name not in known,
                "reason_not_safe": "already managed" if name in known else None,
                "cinder_id": known.get(name),
                "extra_info": None,
            }
            for name, size in self.pool.files().items()
            if volume_utils.extract_id_from_snapshot_name(name) is None
        ]
        return volume_utils.paginate_entries_list(entries, marker, limit, offset, sort_keys, sort_dirs)

    def unmanage(self, volume: Any) -> None:
        """Leave the file where it is."""

    def _adopt(self, reference: dict[str, Any], name: str, size: int) -> None:
        present, _ = self._referred(reference)
        if volume_utils.check_already_managed_volume(volume_utils.extract_id_from_volume_name(present)):
            raise exception.ManageExistingAlreadyManaged(volume_ref=present)
        with _told():
            self.pool.adopt(present, name, size * _GIB)

    def _referred(self, reference: dict[str, Any]) -> tuple[str, int]:
        """Return the name of the file that somebody refers to, and its bytes; it is one of the pool, finished.

        Raises:
            cinder.exception.ManageExistingInvalidReference: it is not.
        """
        name = reference.get("source-name") if isinstance(reference, dict) else None
        size = self.pool.files().get(name) if isinstance(name, str) else None
        if not isinstance(name, str) or size is None:
            reason = "source-name must be the name of a file in the pool."
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason=reason)
        return name, size

    # -- what there is ------------------------------------------------------------------------------------------------

    def _update_volume_stats(self) -> None:
        total, free = self.pool.room()
        name = self.configuration.safe_get("volume_backend_name") or type(self).__name__
        pool = {
            "pool_name": name,
            "total_capacity_gb": round(total / _GIB, 2),
            "free_capacity_gb": round(free / _GIB, 2),
            "provisioned_capacity_gb": round(sum(self.pool.files().values()) / _GIB, 2),
            "max_over_subscription_ratio": self.configuration.max_over_subscription_ratio,
            "reserved_percentage": self.configuration.reserved_percentage,
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "multiattach": True,
            "QoS_support": False,
            "location_info": f"{KIND}:{socket.gethostname()}:{self.pool.directory}",
            "filter_function": self.get_filter_function(),
            "goodness_function": self.get_goodness_function(),
        }
        self._stats = {
            "volume_backend_name": name,
            "vendor_name": "dockstack",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "pools": [pool],
        }


def _gib(size: int) -> int:
    return -(-size // _GIB)


def _refuse_encryption(context: Any, source: Any, destination: Any) -> None:
    """Have Cinder copy the bytes of files as they are, and never by its encryptor.

    That takes a volume's file for a link to a device, and puts one to another device in its place: the data is gone.
    """
    types = source.volume_type_id, destination.volume_type_id
    if volume_types.volume_types_encryption_changed(context.elevated(), *types):  # when Cinder takes it
        raise exception.VolumeMigrationFailed(reason=f"its encryption would change. {_HOW_TO_ENCRYPT}")


@contextmanager
def _told() -> Iterator[None]:
    """Tell Cinder in its own words what a pool refuses."""
    try:
        yield
    except PoolError as error:
        raise exception.VolumeBackendAPIException(data=str(error)) from error
