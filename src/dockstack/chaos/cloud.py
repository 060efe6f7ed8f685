# SPDX-License-Identifier: Apache-2.0
"""Ask a cloud whose services are being killed: questions are asked again, and what was not answered may be done."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors

from dockstack.chaos.model import GONE
from dockstack.chaos.states import SETTLED
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = TypeVar("Answer")

PATIENCE = 120.0  # seconds, until a question counts as unanswered
POLL_SECONDS = 0.7
BEGIN_SECONDS = 10.0  # from an action's acceptance to the moment at which it shows
ANSWERS = (400, 403, 404, 405, 409, 413)  # what the cloud means, and does not say because something is dead
TROUBLE = (sdk_errors.SDKException, auth_errors.ClientException, OSError)


class Unanswered(DockstackError):  # noqa: N818 - said of a question
    """The cloud did not answer for a long time."""


class Refused(DockstackError):  # noqa: N818 - said of an action
    """The cloud said no."""


class Unsure(DockstackError):  # noqa: N818 - said of an action
    """The answer was lost: it may have been done or not."""


@contextmanager
def doing() -> Iterator[None]:
    """Tell a refusal from a lost answer.

    Raises:
        Refused: it was not done.
        Unsure: nobody knows.
    """
    try:
        yield
    except sdk_errors.HttpException as error:
        if error.status_code in ANSWERS:
            raise Refused(f"{error.status_code}: {error.details or error.message}") from error
        raise Unsure(f"{type(error).__name__}: {error}") from error
    except TROUBLE as error:
        raise Unsure(f"{type(error).__name__}: {error}") from error


def ask(question: Callable[[], Answer], seconds: float = PATIENCE) -> Answer:
    """Ask until there is an answer.

    Raises:
        Unanswered: there was none in that time.
        sdk_errors.HttpException: the answer is no.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return question()
        except TROUBLE as error:
            if isinstance(error, sdk_errors.HttpException) and error.status_code in ANSWERS:
                raise
            if time.monotonic() > deadline:
                raise Unanswered(
                    f"The cloud did not answer for {seconds:.0f} s.",
                    "See which service is down with `dockstack status`; `dockstack up` starts it.",
                    str(error),
                ) from error
        time.sleep(POLL_SECONDS)


def look(connection: Any, server_id: str) -> Any:
    """Return a server, or None if Nova has none of this id.

    Raises:
        Unanswered: Nova did not answer.
    """
    try:
        return ask(lambda: connection.compute.get_server(server_id))
    except sdk_errors.NotFoundException:
        return None


def status_of(server: Any) -> str:
    """Return a server's state in the words of ``states``."""
    return GONE if server is None else str(server.status)


def is_settled(server: Any) -> bool:
    """Whether nothing is being done to a server.

    Of a resize that failed Nova leaves the task, which the reset of its state takes away.
    """
    if server is None or (server.status == "ERROR" and str(server.task_state).startswith("resize_")):
        return True
    return server.task_state is None and server.status in SETTLED


def settle(
    connection: Any, server_id: str, seconds: float, over: Callable[[], bool] = lambda: False, expected: str = ""
) -> Any:
    """Wait until nothing is being done to a server any more, and return it as it is then or when the time is over.

    Args:
        connection: to the cloud.
        server_id: which.
        seconds: the longest wait.
        over: ends it early.
        expected: the state to which an action just asked for leads: Nova may say a while that nothing is done yet.
    """
    begun = time.monotonic()
    while True:
        server, age = look(connection, server_id), time.monotonic() - begun
        begins = expected not in ("", status_of(server)) and age < BEGIN_SECONDS
        if (is_settled(server) and not begins) or over() or age > seconds:
            return server
        time.sleep(POLL_SECONDS)
