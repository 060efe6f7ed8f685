# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import docker.errors
import pytest
import requests
import requests.exceptions

from dockstack.compute.engine import (
    Conflict,
    EngineError,
    EngineFull,
    EngineUnavailable,
    ImageUnusable,
    NotFound,
)
from dockstack.compute.engine.faults import message_of, of_status, of_stream, translated

pytestmark = pytest.mark.unit


def answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "no such container", NotFound),
        (409, "is not running", Conflict),
        (500, "boom", EngineError),
        (500, "write /x: no space left on device", EngineFull),
        (None, "?", EngineError),
    ],
)
def test_a_status_chooses_the_error(status, message, kind) -> None:
    error = of_status("a test", status, message)
    assert type(error) is kind
    assert "a test" in error.brief
    assert error.details == message


def test_the_text_does_not_choose_it() -> None:
    assert type(of_status("a test", 500, "404 not found: no such container; conflict")) is EngineError


@pytest.mark.parametrize(
    ("message", "kind"), [("invalid tar header", ImageUnusable), ("x: no space left on device", EngineFull)]
)
def test_errors_inside_a_stream(message, kind) -> None:
    assert type(of_stream("loading", message)) is kind


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (docker.errors.APIError("x", response=answer(404), explanation="gone"), NotFound),
        (docker.errors.DockerException("cannot negotiate"), EngineUnavailable),
        (requests.exceptions.ReadTimeout("slow"), EngineUnavailable),
        (requests.exceptions.ConnectionError("refused"), EngineUnavailable),
        (FileNotFoundError("no socket"), EngineUnavailable),
        (TimeoutError("slow"), EngineUnavailable),
    ],
)
def test_whatever_the_library_raises_is_translated(raised, kind) -> None:
    with pytest.raises(kind) as caught, translated("a test"):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised


def test_an_unavailable_engine_says_what_to_do() -> None:
    with pytest.raises(EngineUnavailable, match="Check that the engine runs"), translated("a test"):
        raise requests.exceptions.ConnectionError


def test_our_own_mistakes_are_not_the_engines() -> None:
    with pytest.raises(KeyError), translated("a test"):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"message": "m"}', "m"), (b"plain", "plain"), (b"[1]", "[1]"), (b"\xff", "\N{REPLACEMENT CHARACTER}")],
)
def test_finds_the_message(content, message) -> None:
    assert message_of(content) == message
