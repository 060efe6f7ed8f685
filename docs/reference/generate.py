# SPDX-License-Identifier: Apache-2.0
"""Write this folder's pages from the code that they describe: ``python docs/reference/generate.py``.

A unit test compares; a change of an attribute or an option without its page does not pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dockstack.compute.conf import list_opts
from dockstack.deploy.catalogue import CATALOGUE
from dockstack.verify.exercises import ALL

HERE = Path(__file__).parent


def attributes() -> str:
    """Return the page of the deployment's attributes."""
    rows = [f"| `{a.name}` | {a.kind} | {_value(a.default)} | {a.help} |" for a in CATALOGUE]
    return "\n".join(
        [
            "# Attributes",
            "",
            "What `dockstack up` builds is decided by attributes:",
            "default < role < environment file < node < command line.",
            "Set one with `--set NAME=VALUE` or in `/etc/dockstack/dockstack.yaml` (`--environment FILE`):",
            "",
            "```yaml",
            "attributes:              # the whole environment",
            "  network.nat: false",
            "roles:",
            "  compute:               # every node with that role",
            "    compute.cpu_allocation_ratio: 8",
            "nodes:",
            "  this-machine:",
            "    roles: [controller, network, compute]",
            "    attributes:          # one node",
            "      docker.enable: true",
            "```",
            "",
            "`dockstack config show` prints every value and where it came from. An unknown name or a value of",
            "the wrong kind is refused with the nearest right name. An *appended list* adds to the layers before it",
            "and never replaces them.",
            "",
            "| attribute | kind | default | when to change it |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def options() -> str:
    """Return the page of nova.conf's [docker] section."""
    rows = [
        f"| `{option.name}` | {_value(option.default)} | {option.help} |"
        for _, listed in list_opts()
        for option in listed
    ]
    return "\n".join(
        [
            "# The driver's options: `[docker]` in nova.conf",
            "",
            "The driver is loaded by `[DEFAULT] compute_driver = docker.DockerDriver`. All options have defaults that",
            "fit what `dockstack up` sets up.",
            "",
            "| option | default | when to change it |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def exercises() -> str:
    """Return the page of what `dockstack verify` proves."""
    rows = [f"| `{e.name}` | {e.title} | {', '.join(sorted(e.needs)) or '-'} |" for e in ALL]
    return "\n".join(
        [
            "# What `dockstack verify` proves",
            "",
            "Each exercise makes what it needs, takes it back whatever happens, and is skipped, with the reason, where",
            "the cloud lacks a capability. `dockstack verify --only NAME` runs one.",
            "",
            "| exercise | what it proves | needs |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


PAGES = {"attributes.md": attributes, "driver-options.md": options, "exercises.md": exercises}


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"`{item}`" for item in value) or "empty"
    return f"`{value}`" if value not in ("", None) else "empty"


if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
