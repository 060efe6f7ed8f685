# SPDX-License-Identifier: Apache-2.0
"""The host's processors as Nova divides them: shared and dedicated ones, NUMA nodes, and the traits of their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import os_traits
from nova import exception, objects
from nova.virt import hardware

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dockstack.compute.model import NumaNode

_SMALL_PAGE_KB = 4


def read_sets(online: frozenset[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the shared and the dedicated processors ([compute] cpu_shared_set and cpu_dedicated_set).

    As with Nova's other drivers, a host that only names dedicated ones has no shared ones.

    Args:
        online: the processors that this host's processes may use.

    Raises:
        exception.InvalidConfiguration: a named processor is not among them.
    """
    dedicated = frozenset(hardware.get_cpu_dedicated_set() or ())
    named = hardware.get_cpu_shared_set()
    shared = frozenset(named) if named else (frozenset() if dedicated else online)
    missing = (shared | dedicated) - online
    if missing:
        raise exception.InvalidConfiguration(
            f"[compute] cpu_shared_set and cpu_dedicated_set name processors that this host does not have: "
            f"{sorted(missing)}. It has {sorted(online)}."
        )
    return shared, dedicated


def build_topology(nodes: Iterable[NumaNode], shared: Collection[int], dedicated: Collection[int]) -> str:
    """Describe the host for Nova's fitting of servers with processors of their own; Nova counts what is used.

    A host without dedicated ones may still have servers on chosen nodes (hw:numa_nodes).
    """
    cells = [
        objects.NUMACell(
            id=node.id,
            socket=node.socket,
            cpuset=set(node.cpus & frozenset(shared)),
            pcpuset=set(node.cpus & frozenset(dedicated)),
            memory=node.memory_mb,
            cpu_usage=0,
            memory_usage=0,
            pinned_cpus=set(),
            siblings=_siblings(node, frozenset(shared) | frozenset(dedicated)),
            mempages=[
                objects.NUMAPagesTopology(
                    size_kb=_SMALL_PAGE_KB, total=node.memory_mb * 1024 // _SMALL_PAGE_KB, used=0, reserved=0
                )
            ],
            network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
        )
        for node in nodes
    ]
    return str(objects.NUMATopology(cells=cells)._to_json())  # noqa: SLF001 - as Nova's own drivers do


def build_cpu_traits(features: Iterable[str]) -> set[str]:
    """Translate the processor's features to the standard traits that name them, such as HW_CPU_X86_AVX2.

    Virtualisation is left out: a container cannot use it.
    """
    wanted = {"HW_CPU_X86_" + _TRAIT_NAMES.get(feature, feature.upper()) for feature in features}
    return wanted & known_cpu_traits() - {os_traits.HW_CPU_X86_VMX, os_traits.HW_CPU_X86_SVM}


def report_traits(tree: Any, node: str, features: Iterable[str], ours: Mapping[str, bool]) -> None:
    """Have a provider's traits tell of its processor and of what this driver found; those of others stay.

    Args:
        tree: a ``nova.compute.provider_tree.ProviderTree``.
        node: the provider's name in it.
        features: the processor's, as the kernel names them.
        ours: this driver's own traits, and whether the host has them now.
    """
    present = set(tree.data(node).traits)
    wanted = build_cpu_traits(features) | {name for name, there in ours.items() if there}
    tree.add_traits(node, *sorted(wanted - present))
    tree.remove_traits(node, *sorted(((known_cpu_traits() | set(ours)) & present) - wanted))


def known_cpu_traits() -> set[str]:
    """Return all traits that tell of a processor's features."""
    return set(os_traits.get_traits(prefix="HW_CPU_X86_"))


def _siblings(node: NumaNode, available: frozenset[int]) -> list[set[int]]:
    return [set(threads & available) for threads in node.siblings if threads & available]


# The kernel's names of features (/proc/cpuinfo) that the traits spell differently.
_TRAIT_NAMES = {
    "aes": "AESNI",
    "amx_bf16": "AMXBF16",
    "amx_int8": "AMXINT8",
    "amx_tile": "AMXTILE",
    "avx512_bitalg": "AVX512BITALG",
    "avx512_vbmi2": "AVX512VBMI2",
    "avx512_vnni": "AVX512VNNI",
    "avx512_vpopcntdq": "AVX512VPOPCNTDQ",
    "bmi1": "BMI",
    "fma": "FMA3",
    "gfni": "AVX512GFNI",
    "pclmulqdq": "CLMUL",
    "pni": "SSE3",
    "rtm": "TSX",
    "sha_ni": "SHA",
    "sse4_1": "SSE41",
    "sse4_2": "SSE42",
    "vaes": "AVX512VAES",
    "vpclmulqdq": "AVX512VPCLMULQDQ",
}
