# SPDX-License-Identifier: Apache-2.0
"""The engine's daemon.json: our keys merged in and taken out again, everything else as it was; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dockstack.errors import DockstackError

ABSENT = "absent"


@dataclass(frozen=True)
class Wanted:
    """What our servers need of the engine.

    Attributes:
        runtime: the name under ``runtimes``.
        runtime_path: the dispatcher's path.
        data_root: where an engine that we start keeps its data; None leaves it to the file or the engine.
        storage_driver: how it keeps them; None likewise.
        live_restore: whether to switch that on; False where the engine has it on by its command line.
    """

    runtime: str
    runtime_path: str
    data_root: str | None = None
    storage_driver: str | None = None
    live_restore: bool = True


def keys(wanted: Wanted) -> tuple[str, ...]:
    """Return the keys, besides the runtime and live-restore, that have to be in the file."""
    chosen = {"data-root": wanted.data_root, "storage-driver": wanted.storage_driver}
    return tuple(key for key, value in chosen.items() if value is not None)


def merge(text: str | None, wanted: Wanted, path: str) -> str:
    """Return the file with our keys in it.

    Raises:
        DockstackError: the file is no JSON object; nothing is overwritten then.
    """
    document = parse(text, path)
    runtimes = document.get("runtimes", {})
    if not isinstance(runtimes, dict):
        raise _damaged(path, '"runtimes" is no object')
    merged = {**document, "runtimes": {**runtimes, wanted.runtime: {"path": wanted.runtime_path}}}
    if wanted.live_restore:
        merged["live-restore"] = True
    if wanted.data_root is not None:
        merged["data-root"] = wanted.data_root
    if wanted.storage_driver is not None:
        merged["storage-driver"] = wanted.storage_driver
    return text if text is not None and merged == document else json.dumps(merged, indent=4) + "\n"


def before(text: str | None, wanted: Wanted, path: str) -> str:
    """Return, as JSON, what our keys were before the first merge; ``restore`` takes it."""
    document = parse(text, path)
    kept = {
        "runtime": document.get("runtimes", {}).get(wanted.runtime, ABSENT),
        "live-restore": document.get("live-restore", ABSENT),
        "data-root": document.get("data-root", ABSENT),
        "storage-driver": document.get("storage-driver", ABSENT),
        "file": text is not None,
    }
    return json.dumps(kept)


def restore(text: str | None, kept_text: str, wanted: Wanted, path: str) -> str | None:
    """Return the file with our keys as they were before; None if the file was ours alone and is to be removed."""
    document, kept = parse(text, path), json.loads(kept_text)
    runtimes = dict(document.pop("runtimes", {}))
    _put_back(runtimes, wanted.runtime, kept["runtime"])
    if runtimes:
        document["runtimes"] = runtimes
    _put_back(document, "live-restore", kept["live-restore"])
    if wanted.data_root is not None:
        _put_back(document, "data-root", kept["data-root"])
    if wanted.storage_driver is not None:
        _put_back(document, "storage-driver", kept.get("storage-driver", ABSENT))
    if not document and not kept["file"]:
        return None
    return json.dumps(document, indent=4) + "\n"


def _put_back(mapping: dict[str, Any], key: str, value: Any) -> None:
    if value == ABSENT:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def parse(text: str | None, path: str) -> dict[str, Any]:
    """Return what the file says.

    Raises:
        DockstackError: it is no JSON object.
    """
    if text is None or not text.strip():
        return {}
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(path, f"line {error.lineno}: {error.msg}") from error
    if not isinstance(document, dict):
        raise _damaged(path, "it holds no object")
    return document


def _damaged(path: str, why: str) -> DockstackError:
    return DockstackError(
        f"{path} is no valid JSON ({why}); the engine would not start with it either.",
        "Correct it and run `dockstack up` again; nothing of it was changed.",
    )
