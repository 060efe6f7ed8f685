# SPDX-License-Identifier: Apache-2.0
"""The engine: the only importer of the docker SDK; typed results, typed errors, a timeout on every call."""

from __future__ import annotations

from dockstack.compute.engine.client import Engine
from dockstack.compute.engine.faults import (
    Conflict,
    EngineError,
    EngineFull,
    EngineTooSlow,
    EngineUnavailable,
    ImageUnusable,
    NotFound,
)
from dockstack.compute.engine.records import (
    Container,
    ContainerSpec,
    EngineImage,
    EngineInfo,
    Event,
    EventKind,
    Execution,
    GuestFile,
    Layers,
)
from dockstack.compute.engine.streams import EventStream
from dockstack.compute.engine.terminals import Program, Size, Stream, Terminals

__all__ = [
    "Conflict",
    "Container",
    "ContainerSpec",
    "Engine",
    "EngineError",
    "EngineFull",
    "EngineImage",
    "EngineInfo",
    "EngineTooSlow",
    "EngineUnavailable",
    "Event",
    "EventKind",
    "EventStream",
    "Execution",
    "GuestFile",
    "ImageUnusable",
    "Layers",
    "NotFound",
    "Program",
    "Size",
    "Stream",
    "Terminals",
]
