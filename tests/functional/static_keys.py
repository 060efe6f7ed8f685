# SPDX-License-Identifier: Apache-2.0
"""A key manager of castellan's that has what a test gave it, in Barbican's place; ``BACKEND`` is what configures it."""

from __future__ import annotations

from typing import Any, ClassVar

from castellan.common.exception import ManagedObjectNotFoundError
from castellan.key_manager.key_manager import KeyManager

BACKEND = f"{__name__}.StaticKeyManager"


class StaticKeyManager(KeyManager):
    """Gives, and takes nothing."""

    held: ClassVar[dict[str, Any]] = {}

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)

    def get(self, context: Any, managed_object_id: str, metadata_only: bool = False) -> Any:
        del context, metadata_only
        if managed_object_id not in self.held:
            raise ManagedObjectNotFoundError(uuid=managed_object_id)
        return self.held[managed_object_id]

    def _refuse(self, *_arguments: Any, **_named: Any) -> Any:
        raise NotImplementedError

    create_key = create_key_pair = store = delete = add_consumer = remove_consumer = _refuse
