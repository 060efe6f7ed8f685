# SPDX-License-Identifier: Apache-2.0
"""What opens an encrypted volume: Cinder says which key that is, the key manager has it."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

import nova.conf
import nova.context
from castellan import key_manager
from castellan.common.exception import CastellanException
from keystoneauth1 import loading
from keystoneauth1.exceptions import ClientException
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


class NoKey(DockstackError):  # noqa: N818 - said of the volume
    """What opens a volume cannot be had."""


def read_encryption(volume_id: str) -> Encryption:
    """Ask how a volume is encrypted, and what opens it.

    Raises:
        NoKey: nobody says it.
    """
    try:
        found = cinder.API().get_volume_encryption_metadata(nova.context.get_admin_context(), volume_id)
    except Exception as error:  # of cinderclient, keystoneauth and Nova
        raise NoKey(f"Cinder does not say how volume {volume_id} is encrypted: {error}.", "Try again.") from error
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
    failure = "nobody may ask"
    for context in _list_contexts():
        try:
            found = manager.get(context, key_id)
        except (CastellanException, ClientException) as error:
            LOG.debug("The key of volume %s was refused: %s", volume_id, error)
            failure = str(error)
        else:
            return binascii.hexlify(found.get_encoded())  # as os-brick, and Cinder, make a passphrase of a key
    raise NoKey(
        f"The key manager does not give the key of volume {volume_id}: {failure}.",
        "Start it (key_manager.enable), or start the server as a member of its project.",
    )


def _list_contexts() -> Iterator[Any]:
    asked = oslo_context.get_current()
    if asked is not None and asked.auth_token:
        yield asked
    own = loading.load_auth_from_conf_options(CONF, _ACCOUNT)
    if own is not None:
        yield nova.context.RequestContext(user_auth_plugin=own, overwrite=False)
