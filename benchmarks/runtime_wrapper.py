# SPDX-License-Identifier: Apache-2.0
"""What the runtime wrapper does to a start: containers with the plain runtime and with ours, taken in turns.

Prints the medians of: runc, a start with the engine's own runtime; wrapper, the same with ours; network, what the
driver does before (namespace, veth pair, addresses, routes); own, dispatcher and editor alone, in CPU time.

Needs root, an engine binary, containerd and a static busybox; starts an engine of its own and removes it.

    python benchmarks/runtime_wrapper.py [--rounds 25] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "docker"))

from private_engine import PrivateEngine, remove_leftovers, remove_namespaces, uuid_prefix
from server_lab import Lab, docker_archive

from dockstack.compute import privileged
from dockstack.compute.containers import namespaces, runtime, spec
from dockstack.compute.engine import Engine
from dockstack.compute.network import veth
from dockstack.oci.process import ImageConfig

BUDGET_MS = 40


def measure(rounds: int) -> dict[str, list[float]]:
    """Start containers in turns; return the milliseconds of each kind."""
    privileged.context.set_client_mode(False)
    remove_leftovers()
    private = PrivateEngine()
    private.install()
    times: dict[str, list[float]] = {"runc": [], "wrapper": [], "network": [], "own": []}
    try:
        private.start()
        engine = Engine(private.url, 60)
        lab = Lab(engine, private, engine.load_image([docker_archive()])[0])
        for number in range(rounds + 1):
            for kind in ("runc", "wrapper") if number % 2 else ("wrapper", "runc"):
                network, start = start_one(lab, kind)
                if number:  # the first round warms caches
                    times[kind].append(start)
                    if kind == "wrapper":
                        times["network"].append(network)
        times["own"] = measure_alone(lab, rounds)
    finally:
        private.clean()
        remove_namespaces(uuid_prefix())
    return times


def start_one(lab: Lab, kind: str) -> tuple[float, float]:
    """Return the milliseconds of preparing the network and of the engine's start."""
    server = lab.server()
    config = ImageConfig(env={"PATH": "/bin"})
    wanted = spec.build_spec(server, lab.image_id, config, host="host")
    network = 0.0
    if kind == "runc":
        lab.engine.create(server.container_name, replace(wanted, runtime="runc"))
    else:
        began = time.monotonic()
        namespaces.prepare(server.uuid)
        veth.wire(server, server.ports[0])
        network = time.monotonic() - began
        identity = lab.engine.create(server.container_name, wanted)
        runtime.write_patch(lab.private.patches, identity, spec.build_patch(server, config))
    began = time.monotonic()
    lab.engine.start(server.container_name)
    start = time.monotonic() - began
    lab.destroy()
    lab.servers.clear()
    return network * 1000, start * 1000


def measure_alone(lab: Lab, rounds: int) -> list[float]:
    """Return the milliseconds of dispatcher and editor, with a runtime behind them that does nothing."""
    directory = lab.private.directory / "alone"
    runtime.install(directory, lab.private.patches, "/bin/true")
    bundle = directory / "bundle"
    bundle.mkdir()
    server = lab.server()
    namespace = namespaces.prepare(server.uuid)
    runtime.write_patch(lab.private.patches, bundle.name, runtime.Patch(namespace))
    state = {"linux": {"namespaces": [{"type": "network"}]}, "mounts": [{"padding": "x" * 10_000}]}
    command = [str(directory / runtime.RUNTIME), "--root", "/run", "create", "--bundle", str(bundle), bundle.name]
    times = []
    for _ in range(rounds):
        (bundle / "config.json").write_text(json.dumps(state))
        before = os.times()
        subprocess.run(command, check=True)
        after = os.times()
        times.append(
            1000 * (after.children_user + after.children_system - before.children_user - before.children_system)
        )
    lab.destroy()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    times = measure(options.rounds)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    # It also takes out the engine's own network set-up, a process that every other start pays for.
    saved = statistics.median(plain - ours for ours, plain in zip(times["wrapper"], times["runc"], strict=True))
    ratio = medians["wrapper"] / medians["runc"]
    result = {"rounds": options.rounds, **medians, "saved": saved, "ratio": ratio, "budget": BUDGET_MS}
    if options.json:
        print(json.dumps(result))
    else:
        for kind, values in times.items():
            p95 = statistics.quantiles(values, n=20)[-1]
            print(f"{kind:8} median {medians[kind]:6.1f} ms   p95 {p95:6.1f} ms   n={len(values)}")
        print(f"dispatcher and editor take {medians['own']:.1f} ms of CPU time")
        print(f"a start with them is {saved:.1f} ms shorter (median of pairs), ratio {ratio:.3f}")
        print(f"budget: {BUDGET_MS} ms longer")
    sys.exit(-saved > BUDGET_MS)


if __name__ == "__main__":
    main()
