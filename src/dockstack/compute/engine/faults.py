# SPDX-License-Identifier: Apache-2.0
"""The engine's errors, told apart by type and HTTP status."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import docker.errors
import requests.exceptions
import urllib3.exceptions

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECK_ENGINE = (
    "Check that the engine runs (`docker info`, its log) and that this user may use its socket; then try again."
)


class EngineError(DockstackError):
    """The engine refused or failed; the base of all below."""


class EngineUnavailable(EngineError):  # noqa: N818 - said of the engine, as operators say it
    """Nobody answers, or not in time. Trying again later is right."""


class EngineTooSlow(EngineError):  # noqa: N818 - said of the engine
    """It was not done by the time that its caller had set."""


class NotFound(EngineError):  # noqa: N818
    """The engine has no such container or image."""


class Conflict(EngineError):  # noqa: N818
    """The name is taken, or the container is not in a state that allows the call."""


class EngineFull(EngineError):  # noqa: N818
    """The engine's disk is full."""


class ImageUnusable(EngineError):  # noqa: N818
    """The engine cannot use this image, whoever asks: another host will not help."""


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn whatever the SDK and its transport raise into our errors.

    Args:
        action: what was tried, as a gerund: "starting container nova-...".

    Raises:
        EngineError: or the subclass that fits.
    """
    try:
        yield
    except docker.errors.APIError as error:
        raise of_status(action, error.status_code, error.explanation or str(error)) from error
    except (
        docker.errors.DockerException,  # the version cannot be negotiated: the SDK wraps all its causes in this one
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise unavailable(action, error) from error


def of_status(action: str, status: int | None, message: str) -> EngineError:
    """Choose the error that an HTTP status means."""
    if _says_out_of_space(message):
        return full(action, message)
    brief = f"The container engine failed at {action}: {message.strip()}"
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(brief, details=message)
    if status == HTTPStatus.CONFLICT:
        return Conflict(brief, details=message)
    return EngineError(brief, "The engine's log on the host says more.", message)


def of_stream(action: str, message: str) -> EngineError:
    """Choose the error for one that arrives inside a stream of status 200."""
    if _says_out_of_space(message):
        return full(action, message)
    return ImageUnusable(
        f"The container engine cannot use the image, at {action}: {message.strip()}",
        "Check the image with `docker load` and `docker run` elsewhere, and upload it again.",
        message,
    )


def full(action: str, message: str) -> EngineFull:
    """Build the error of a full disk."""
    return EngineFull(
        f"The container engine's disk is full, at {action}.",
        "Free space below the engine's root directory on the host (`docker system df`), then try again.",
        message,
    )


def unavailable(action: str, error: Exception) -> EngineUnavailable:
    """Build the error of an engine that does not answer."""
    return EngineUnavailable(f"The container engine did not answer at {action}.", CHECK_ENGINE, str(error))


def _says_out_of_space(message: str) -> bool:
    """Whether the engine means ENOSPC: for this one it has no status, only strerror's English text."""
    return "no space left on device" in message or "disk quota exceeded" in message


def message_of(content: bytes) -> str:
    """Find the engine's message in an error's body."""
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if isinstance(said, dict) and "message" in said:
        return str(said["message"])
    return content.decode(errors="replace")
