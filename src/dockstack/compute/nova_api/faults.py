# SPDX-License-Identifier: Apache-2.0
"""Our errors in Nova's words, so that their cause reaches the server's fault and the operator's log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nova import exception
from oslo_log import log as logging

from dockstack.compute.engine import EngineUnavailable, NotFound
from dockstack.compute.nova_api.servers import describe
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)


@contextmanager
def spawn_faults(instance: Any, hopeless: tuple[type[DockstackError], ...]) -> Iterator[None]:
    """Translate what went wrong in a spawn.

    What is hopeless everywhere aborts the build. Whatever is wrong with this host lets Nova try another one; the reason
    is kept for the fault of the last attempt.

    Args:
        instance: which server.
        hopeless: the errors that any host would end with.

    Raises:
        exception.BuildAbortException: no host could build this server.
        exception.InstanceDeployFailure: this host could not.
    """
    try:
        yield
    except hopeless as error:
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=str(error)) from error
    except DockstackError as error:
        raise exception.InstanceDeployFailure(reason=str(error)) from error


@contextmanager
def server_faults(instance: Any) -> Iterator[None]:
    """Translate what went wrong with one existing server.

    Raises:
        exception.InstanceNotFound: it has no container here.
        exception.HypervisorUnavailable: the engine does not answer.
        exception.NovaException: anything else, with its cause.
    """
    try:
        yield
    except NotFound as error:
        raise exception.InstanceNotFound(instance_id=instance.uuid) from error
    except EngineUnavailable as error:
        raise exception.HypervisorUnavailable(str(error)) from error
    except DockstackError as error:
        raise exception.NovaException(str(error)) from error


@contextmanager
def serving(
    instance: Any, network_info: Iterable[Any] | None = None, block_device_info: dict[str, Any] | None = None
) -> Iterator[Server]:
    """Describe an existing server for a flow and translate what went wrong with it.

    Args:
        instance: a ``nova.objects.Instance``.
        network_info: its ports, if the flow looks at them.
        block_device_info: its volumes, if Nova tells them.

    Raises:
        exception.InstanceNotFound, exception.HypervisorUnavailable, exception.NovaException: as ``server_faults``.
    """
    with server_faults(instance):
        yield describe(instance, network_info, block_device_info)


@contextmanager
def snapshot_faults(instance: Any) -> Iterator[None]:
    """Translate why a server does not become an image; one that is not there does not run, in Nova's contract.

    Nova removes the image and says no more of it, not in its log either: the server is as it was.

    Raises:
        exception.InstanceNotRunning: it has no container here.
        exception.HypervisorUnavailable, exception.NovaException: as ``server_faults``.
    """
    try:
        with server_faults(instance):
            yield
    except exception.InstanceNotFound as error:
        raise exception.InstanceNotRunning(instance_id=instance.uuid) from error
    except Exception as error:
        LOG.warning("No image is made of the server: %s", error, instance_uuid=instance.uuid)
        raise


@contextmanager
def move_faults(instance: Any) -> Iterator[None]:
    """Translate why a server cannot be resized or migrated; Nova then leaves it as it was.

    Raises:
        exception.InstanceFaultRollback: around the cause.
    """
    try:
        with server_faults(instance):
            yield
    except exception.NovaException as error:
        cause = exception.ResizeError(reason=error.format_message())
        raise exception.InstanceFaultRollback(inner_exception=cause) from error


@contextmanager
def console_faults(
    instance: Any, host: str, not_running: type[DockstackError], no_port: type[DockstackError]
) -> Iterator[None]:
    """Translate what went wrong with a server's console to what Nova's API has an answer for.

    Raises:
        exception.InstanceNotReady: the server does not run.
        exception.SocketPortRangeExhaustedException: the host has no port left.
        exception.InstanceNotFound, exception.HypervisorUnavailable, exception.NovaException: as ``server_faults``.
    """
    with server_faults(instance):
        try:
            yield
        except not_running as error:
            raise exception.InstanceNotReady(instance_id=instance.uuid) from error
        except no_port as error:
            raise exception.SocketPortRangeExhaustedException(host=host) from error


@contextmanager
def picture_faults(cannot: type[DockstackError]) -> Iterator[None]:
    """Translate that this host can show no pictures of consoles.

    Args:
        cannot: the error that says so.

    Raises:
        exception.ConsoleTypeUnavailable: ask for another kind.
    """
    try:
        yield
    except cannot as error:
        LOG.warning("No VNC console: %s", error)
        raise exception.ConsoleTypeUnavailable(console_type="novnc") from error


@contextmanager
def host_faults() -> Iterator[None]:
    """Translate what went wrong with the host as a whole.

    Nova's periodic tasks know ``VirtDriverNotReady`` as "try again later" and leave the servers' states alone.

    Raises:
        exception.VirtDriverNotReady: the engine does not answer.
    """
    try:
        yield
    except DockstackError as error:
        raise exception.VirtDriverNotReady(str(error)) from error


@contextmanager
def password_faults(refusal: type[DockstackError]) -> Iterator[None]:
    """Translate a server's refusal of a password into what Nova answers as a conflict, not as the server's error.

    Args:
        refusal: the error that says so.

    Raises:
        exception.SetAdminPasswdNotSupported: it has no such user, or no passwords at all.
    """
    try:
        yield
    except refusal as error:
        raise exception.SetAdminPasswdNotSupported(str(error)) from error
