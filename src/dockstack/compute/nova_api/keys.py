# SPDX-License-Identifier: Apache-2.0
"""What opens an encrypted volume: Cinder says which key that is, the key manager has it."""

from __future__ import annotations

import binascii
import time
from typing import TYPE_CHECKING, Any

import nova.conf
import nova.context
from castellan import key_manager
from castellan.common.exception import CastellanException
from keystoneauth1 import loading
from keystoneauth1.exceptions import ClientException, ConnectionError, HttpServerError  # noqa: A004 - its name there
from nova import exception
from nova.volume import cinder
from os_brick import encryptors
from oslo_context import context as oslo_context
from oslo_log import log as logging

from dockstack.compute.model import Encryption
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
_ACCOUNT = "service_user"  # of Nova itself
_UNANSWERED = (ConnectionError, HttpServerError, exception.CinderConnectionFailed)
_PATIENCE, _PAUSE = 60, 2  # seconds; the conductor, which this process waits for itself, answers by then
_patient_until = time.monotonic() + _PATIENCE


class NoKey(DockstackError):  # noqa: N818 - said of the volume
    """What opens a volume cannot be had."""


class NoAnswer(NoKey):
    """Whoever has it does not answer."""


def read_encryption(volume_id: str) -> Encryption:
    """Ask how a volume is encrypted, and what opens it.

    After a reboot of the machine, Nova resumes servers while the key manager may be starting still. So while
    nova-compute is young, a start that no user waits for is patient; together, all of them wait no longer than that.

    Raises:
        NoKey: nobody says it.
    """
    while True:
        try:
            return _read_encryption(volume_id)
        except NoAnswer as error:
            if _has_requester() or time.monotonic() > _patient_until:
                raise
            LOG.info("Waiting for what opens volume %s: %s", volume_id, error)
            time.sleep(_PAUSE)


def _read_encryption(volume_id: str) -> Encryption:
    try:
        found = cinder.API().get_volume_encryption_metadata(nova.context.get_admin_context(), volume_id)
    except Exception as error:  # of cinderclient, keystoneauth and Nova
        kind = NoAnswer if _is_unanswered(error) else NoKey
        raise kind(f"Cinder does not say how volume {volume_id} is encrypted: {error}.", "Try again.") from error
    said: dict[str, Any] = dict(found)
    provider = said.get("provider") or ""
    return Encryption(
        key=_read_key(volume_id, said.get("encryption_key_id") or ""),
        provider=encryptors.LEGACY_PROVIDER_CLASS_TO_FORMAT_MAP.get(provider, provider) or "",
        cipher=said.get("cipher") or Encryption.cipher,
        bits=int(said.get("key_size") or Encryption.bits),
    )


def _read_key(volume_id: str, key_id: str) -> bytes:
    """Ask for a key as whoever asked Nova; then as Nova, which does so by itself after a reboot of a host."""
    manager = key_manager.API(CONF)
    kind, failure = NoKey, "nobody may ask"
    for context in _list_contexts():
        try:
            found = manager.get(context, key_id)
        except (CastellanException, ClientException) as error:
            LOG.debug("The key of volume %s was refused: %s", volume_id, error)
            kind, failure = NoAnswer if _is_unanswered(error) else NoKey, str(error)
        else:
            return binascii.hexlify(found.get_encoded())  # as os-brick, and Cinder, make a passphrase of a key
    raise kind(
        f"The key manager does not give the key of volume {volume_id}: {failure}.",
        "Start it (key_manager.enable), or start the server as a member of its project.",
    )


def _is_unanswered(error: Exception) -> bool:
    """Whether nobody answered; castellan says of some only that its own error came while it handled that one."""
    return isinstance(error, _UNANSWERED) or isinstance(error.__context__, _UNANSWERED)


def _has_requester() -> bool:
    asked = oslo_context.get_current()
    return asked is not None and bool(asked.auth_token)


def _list_contexts() -> Iterator[Any]:
    if _has_requester():
        yield oslo_context.get_current()
    own = loading.load_auth_from_conf_options(CONF, _ACCOUNT)
    if own is not None:
        yield nova.context.RequestContext(user_auth_plugin=own, overwrite=False)
