# SPDX-License-Identifier: Apache-2.0
"""Let Nova 33's test fixtures serve native threads, on which the driver's services run; Nova 34's do by themselves."""

from __future__ import annotations

import contextlib
import threading

from nova.tests.fixtures import notifications
from oslo_db.sqlalchemy import enginefacade

_ONE = threading.RLock()
_scope = enginefacade._TransactionContextManager._transaction_scope


@contextlib.contextmanager
def _scope_alone(manager, context):
    with _ONE, _scope(manager, context) as resource:
        yield resource


def serve_native_threads() -> None:
    """Green threads change places only where one waits, and those fixtures rely on it."""
    # All use one connection to a database in memory, in which one transaction at a time can be under way.
    enginefacade._TransactionContextManager._transaction_scope = _scope_alone
    # The test that a notification belongs to is looked for among green threads, of which there are none.
    notifications.FakeVersionedNotifier._get_sender_test_case_id = lambda notifier: notifier.test_case_id
