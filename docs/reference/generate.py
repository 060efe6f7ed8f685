# SPDX-License-Identifier: Apache-2.0
"""Write this folder's pages, and the support matrix, from what they describe: ``python docs/reference/generate.py``.

A unit test compares; a change of an attribute or an option without its page does not pass.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from dockstack.compute import extra_specs, support
from dockstack.compute.conf import list_opts
from dockstack.deploy.wanted.catalogue import CATALOGUE
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS, Key
from dockstack.doctor.checks import CLOUD, MACHINE
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
            "The driver is loaded by `[DEFAULT] compute_driver = docker.DockerDriver` ([in a Nova that you",
            "have](../driver.md), `dockstack driver install` first). All options have defaults that fit what",
            "`dockstack up` sets up.",
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


def support_matrix() -> str:
    """Return the driver's column of Nova's support matrix."""
    features = support.load()
    novas = [feature for feature in features if feature.is_novas]
    counted = Counter(feature.status for feature in novas)
    return "\n".join(
        [
            "# Support matrix",
            "",
            "The driver's column of Nova's own",
            "[feature support matrix](https://docs.openstack.org/nova/latest/user/support-matrix.html), row for row.",
            "*complete* works at all times, *partial* with the caveats that are named, *missing* not at all.",
            "",
            "| driver | complete | partial | missing |",
            "|---|---|---|---|",
            f"| **docker** | **{counted['complete']}** | **{counted['partial']}** | **{counted['missing']}** |",
            "| libvirt-kvm-x86 | 52 | 4 | 3 |",
            "| vmware | 23 | 2 | 34 |",
            "| libvirt-lxc | 16 | 0 | 43 |",
            "",
            "The other drivers' numbers are Nova 34's; a row that it calls unknown counts as missing here.",
            "Tempest's flags in `[compute-feature-enabled]` are decided by these rows: a flag is on if no row that",
            "names it is missing. A test compares the rows with the driver's methods and capabilities.",
            "",
            *_features(novas),
            "",
            "## What Nova's matrix has no row for",
            "",
            *_features([feature for feature in features if not feature.is_novas]),
            "",
        ]
    )


def _features(features: list[support.Feature]) -> list[str]:
    head = ["| feature | | how, or why not | Tempest's flags |", "|---|---|---|---|"]
    rows = []
    for feature in features:
        name = f"{feature.title} (`{feature.key.removeprefix(support.EXTRA_PREFIX)}`)"
        flags = ", ".join(f"`{flag}`" for flag in feature.tempest) or "-"
        rows.append(f"| {name} | {feature.status} | {feature.notes} | {flags} |")
    return head + rows


def extra_specs_page() -> str:
    """Every extra spec of flavors that the driver reads."""
    lines = [
        "# Extra specs of flavors",
        "",
        "Generated by `docs/reference/generate.py` from the driver's own table. Set them with",
        "`openstack flavor set --property NAME=VALUE FLAVOR`; only who may change flavors can.",
        "",
        "## Ours",
        "",
        "Nova refuses any other name that begins with `docker:`.",
        "",
        "| name | value | what it does |",
        "|---|---|---|",
    ]
    for spec in extra_specs.OURS:
        value = {bool: "true or false", str: "text"}.get(spec.kind, f"{spec.minimum} to {spec.maximum}")
        lines.append(f"| `{spec.name}` | {value} | {spec.help} |")
    lines += ["", "## Nova's own, and what they do for containers", "", "| name | what it does |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in extra_specs.FIELDS.items()]
    lines += [
        "",
        "## Refused",
        "",
        "A server of a flavor with one of these is not built, since no container can have it.",
        "",
        "| name | why |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {text[0].upper()}{text[1:]}. |" for name, text in extra_specs.REFUSED.items()]
    return "\n".join([*lines, ""])


def cloud_document() -> str:
    """Return the page of what compute nodes must know of a cloud."""
    rows = [f"| `{k.name}` | {k.kind} | {_value(k.default)} | {k.need} | {_meaning(k)} |" for k in CLOUD_KEYS]
    return "\n".join(
        [
            "# The cloud document",
            "",
            "What a compute node must know of a cloud ([guide](../nodes.md)). `dockstack cloud import` fills it from",
            "the cloud's own files; `--set KEY=VALUE` and `--set-file KEY=FILE` win over them. `dockstack cloud show`",
            "prints every value and where it came from. Secrets are in a file of their own, mode 0600, and are given",
            "by `--set-file` only. A key that is needed and empty is refused.",
            "",
            "| key | kind | default | needed | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _meaning(key: Key) -> str:
    return f"{key.help} **Secret.**" if key.secret else key.help


def checks() -> str:
    """Return the page of what `dockstack doctor` looks at."""
    head = [
        "| check | what is true where nothing is found | what it means where something is | `--mend` |",
        "|---|---|---|---|",
    ]
    machine = [f"| `{c.name}` | {c.title} | {c.means} | {c.mends or '-'} |" for c in MACHINE]
    cloud = [f"| `{c.name}` | {c.title} | {c.means} | {c.mends or '-'} |" for c in CLOUD]
    return "\n".join(
        [
            "# What `dockstack doctor` looks at",
            "",
            "In this order ([guide](../doctor.md)). `dockstack doctor --only NAME` makes one check.",
            "",
            "## A machine",
            "",
            *head,
            *machine,
            "",
            "## A cloud",
            "",
            *head,
            *cloud,
            "",
        ]
    )


PAGES = {
    "doctor.md": checks,
    "cloud-document.md": cloud_document,
    "extra-specs.md": extra_specs_page,
    "attributes.md": attributes,
    "driver-options.md": options,
    "exercises.md": exercises,
    "../support-matrix.md": support_matrix,
}


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"`{item}`" for item in value) or "empty"
    return f"`{value}`" if value not in ("", None) else "empty"


if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
