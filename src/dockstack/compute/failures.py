# SPDX-License-Identifier: Apache-2.0
"""A failure at one of many servers is that one's own: the others have their turn."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger(__name__)


@contextmanager
def isolated(doing: str, server_uuid: str | None = None) -> Iterator[None]:
    """Log whatever the body fails with, and go on.

    Args:
        doing: what the body does, for the log, as a gerund: "sweeping container nova-...".
        server_uuid: whom it is about.
    """
    try:
        yield
    except (DockstackError, OSError) as error:
        LOG.warning("Failed at %s: %s", doing, error, instance_uuid=server_uuid)
    except Exception:
        LOG.exception("Failed at %s", doing, instance_uuid=server_uuid)
