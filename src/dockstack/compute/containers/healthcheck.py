# SPDX-License-Identifier: Apache-2.0
"""The engine's health check of a server: none, unless somebody wants one, and then not too often.

Each probe is a process that the engine starts from outside, with work of its own that counts to no server's
processors. So there is a least interval, whoever asks for the check. All members are said, also those that nobody
asked for: the engine takes what is missing from the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.compute.containers.properties import PropertyError, can_be_word, parse, shown

if TYPE_CHECKING:
    from dockstack.compute.containers.properties import Properties
    from dockstack.oci.process import ImageConfig

PROPERTY = "docker_healthcheck"
LEAST_INTERVAL = 10  # seconds

_SECOND = 1_000_000_000  # the engine counts nanoseconds
_NONE: dict[str, Any] = {"Test": ["NONE"]}
# What each is if nobody says it, as the engine has it, and the most; a start period of 0 would be the image's.
_DURATIONS = {
    "Interval": (30 * _SECOND, 86_400 * _SECOND),
    "Timeout": (30 * _SECOND, 3600 * _SECOND),
    "StartPeriod": (_SECOND // 1000, 86_400 * _SECOND),
}
_RETRIES = (3, 1000)
_NUMBERS = {*_DURATIONS, "Retries"}
_COMMAND_BYTES = 4096
_EXAMPLE = '{"Test": ["CMD", "/check"], "Interval": 60000000000}'


def build(properties: Properties, image: ImageConfig, least_interval: int = LEAST_INTERVAL) -> dict[str, Any]:
    """Return the check in the engine's words.

    What the property asks for too often is refused; the image's own check, if it is asked for, is made as often as it
    may be: whoever built the image did not know of this cloud.

    Args:
        properties: the server's and its image's.
        image: what the image says of itself.
        least_interval: seconds between two probes at least.

    Raises:
        PropertyError: it is no check, or asks for more than a server may have.
    """
    text = properties.optional(PROPERTY)
    if text in (None, "none"):
        return dict(_NONE)
    least = least_interval * _SECOND
    if text == "image":
        return _of_image(image.healthcheck, least)
    found = parse(text or "")
    if not _is_check(found):
        raise PropertyError(PROPERTY, f"is neither none, image nor an object such as {_EXAMPLE}: {shown(text or '')}")
    if found["Test"] == ["NONE"]:
        return dict(_NONE)
    checked = _complete(found, least)
    for name, value in checked.items():
        if name != "Test" and found.get(name) and found[name] != value:
            way = "less" if value > found[name] else "more"
            raise PropertyError(PROPERTY, f"asks for {way} than the {name} of {value} that a server may have")
    return checked


def _of_image(found: dict[str, Any] | None, least: int) -> dict[str, Any]:
    """Return an image's own check, within bounds."""
    known = {name: value for name, value in (found or {}).items() if name in (*_NUMBERS, "Test")}
    if not known.get("Test") or known["Test"] == ["NONE"]:
        return dict(_NONE)
    if not _is_check(known):
        raise PropertyError(PROPERTY, "is image, and what the image says is no health check")
    return _complete(known, least)


def _complete(found: dict[str, Any], least: int) -> dict[str, Any]:
    """Return a check with every member, each within its bounds."""
    checked: dict[str, Any] = {"Test": list(found["Test"])}
    for name, (usual, most) in _DURATIONS.items():
        checked[name] = min(max(found.get(name) or usual, _DURATIONS["StartPeriod"][0]), most)
    checked["Interval"] = min(max(checked["Interval"], least), max(least, _DURATIONS["Interval"][1]))
    checked["StartInterval"] = checked["Interval"]  # engines from 25.0 on probe by this one in the start period
    usual, most = _RETRIES
    checked["Retries"] = min(found.get("Retries") or usual, most)
    return checked


def _is_check(found: Any) -> bool:
    test = found.get("Test") if isinstance(found, dict) else None
    return (
        isinstance(test, list)
        and all(isinstance(word, str) and can_be_word(word) for word in test)
        and (test == ["NONE"] or (test[:1] in (["CMD"], ["CMD-SHELL"]) and len(test) > 1))
        and sum(len(word.encode()) + 1 for word in test) <= _COMMAND_BYTES
        and found.keys() <= {*_NUMBERS, "Test"}
        and all(type(found[name]) is int and found[name] >= 0 for name in _NUMBERS & found.keys())
    )
