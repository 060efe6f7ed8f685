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
from cinderclient.exceptions import ClientException as CinderError
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
_SERVER_ERROR = 500  # a proxy's word, too, while nobody is behind it
_YOUNG, _PATIENCE, _PAUSE = 600, 60, 2  # seconds


class NoKey(DockstackError):  # noqa: N818 - said of the volume
    """What opens a volume cannot be had."""


class NoAnswer(NoKey):
    """Whoever has it does not answer."""


class Patience:
    """How long nova-compute asks again: a minute from the first answer that it missed, if it was young then."""

    def __init__(self) -> None:
        """Be young from now on."""
        self._young_until = time.monotonic() + _YOUNG
        self._until: float | None = None

    def lasts(self) -> bool:
        """Tell whether to ask again."""
        now = time.monotonic()
        if self._until is None:
            self._until = min(now, self._young_until) + _PATIENCE
        return now <= self._until


_patience = Patience()


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
            if _has_requester() or not _patience.lasts():
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


def _is_unanswered(error: BaseException | None) -> bool:
    """Whether nobody could answer; castellan says of some only that its own error came while it handled that one."""
    while error is not None:
        if isinstance(error, _UNANSWERED) or _status(error) >= _SERVER_ERROR:
            return True
        error = error.__context__
    return False


def _status(error: BaseException) -> int:
    """Return the HTTP status of an error of cinderclient or barbicanclient, 0 of any other."""
    if isinstance(error, CinderError):
        return int(error.code)
    return int(getattr(error, "status_code", 0))


def _has_requester() -> bool:
    asked = oslo_context.get_current()
    return asked is not None and bool(asked.auth_token)


def _list_contexts() -> Iterator[Any]:
    if _has_requester():
        yield oslo_context.get_current()
    own = loading.load_auth_from_conf_options(CONF, _ACCOUNT)
    if own is not None:
        yield nova.context.RequestContext(user_auth_plugin=own, overwrite=False)
