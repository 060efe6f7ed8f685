# SPDX-License-Identifier: Apache-2.0
"""What limits on root disks cost: servers on a plain directory, and on btrfs in a file without and with limits.

"limited" is what the driver does: simple quotas, where the kernel has them. "full quotas" is what the engine would do.

Takes turns among the kinds, so that a noisy moment hits all alike. Prints the medians of creating, starting and
removing a container, and of writing and syncing 64 MB in it, as ratios to the plain directory's.

Needs root, an engine binary, containerd, btrfs-progs and a static busybox; starts engines of its own and removes them.

    python benchmarks/storage.py [--rounds 20] [--neighbours 0] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "docker"))

from private_engine import PrivateEngine, remove_leftovers, remove_namespaces, uuid_prefix
from server_lab import Lab, docker_archive

from dockstack.compute import privileged
from dockstack.compute.containers import namespaces, runtime, spec
from dockstack.compute.engine import Engine
from dockstack.compute.privileged import subvolumes
from dockstack.oci.process import ImageConfig

KINDS = ("directory", "btrfs", "btrfs, limited", "btrfs, full quotas")
STEPS = ("create", "start", "boot", "write", "remove")
WRITE = ("dd", "if=/dev/zero", "of=/written", "bs=1M", "count=64", "conv=fsync")
SIZE = "6G"
CONFIG = ImageConfig(env={"PATH": "/bin"})

Times = dict[str, dict[str, list[float]]]


def measure(rounds: int, neighbours: int) -> Times:
    """Return the milliseconds of each step by kind."""
    privileged.context.set_client_mode(False)
    remove_leftovers()
    privileged.copying.set_client_mode(False)
    engines = [PrivateEngine("plain"), *(PrivateEngine(name, btrfs=SIZE, reserved=True) for name in ("simple", "full"))]
    times: Times = {kind: {step: [] for step in STEPS} for kind in KINDS}
    try:
        plain, simple, full = (prepare(private) for private in engines)
        subvolumes.enable_quotas(str(simple.private.directory / "data"))
        labs = dict(zip(KINDS, (plain, simple, simple, full), strict=True))
        for kind in (KINDS[0], *KINDS[2:]):
            for _ in range(neighbours):
                boot(labs[kind], kind)
            labs[kind].servers.clear()
        for number in range(rounds + 1):
            for kind in KINDS[number % len(KINDS) :] + KINDS[: number % len(KINDS)]:
                found = one(labs[kind], kind)
                if number:  # the first round warms caches
                    for step, taken in found.items():
                        times[kind][step].append(taken)
    finally:
        for private in engines:
            private.clean()
        remove_namespaces(uuid_prefix())
    return times


def prepare(private: PrivateEngine) -> Lab:
    private.install()
    private.start()
    engine = Engine(private.url, 60)
    return Lab(engine, private, engine.load_image([docker_archive()])[0])


def boot(lab: Lab, kind: str) -> tuple[str, float, float]:
    """Return a new server's container with the milliseconds of its creation and start."""
    server = lab.server(ports=())
    namespaces.prepare(server.uuid)
    wanted = spec.build_spec(server, lab.image_id, CONFIG, host="host", sized="," in kind)
    began = time.monotonic()
    identity = lab.engine.create(server.container_name, wanted)
    created = time.monotonic()
    patch = spec.build_patch(server, CONFIG, disk_guard="btrfs" if "," in kind else "")
    runtime.write_patch(lab.private.patches, identity, patch)
    written = time.monotonic()
    lab.engine.start(server.container_name)
    return server.container_name, 1000 * (created - began), 1000 * (time.monotonic() - written)


def one(lab: Lab, kind: str) -> dict[str, float]:
    """Return the milliseconds of each step of one server's life."""
    name, create, start = boot(lab, kind)
    began = time.monotonic()
    if lab.engine.execute(name, WRITE).exit_code:
        sys.exit("a server could not write")
    write = time.monotonic() - began
    began = time.monotonic()
    lab.engine.remove(name)
    remove = time.monotonic() - began
    (server,) = lab.servers
    namespaces.remove(server.uuid)
    lab.servers.clear()
    return {"create": create, "start": start, "boot": create + start, "write": 1000 * write, "remove": 1000 * remove}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--neighbours", type=int, default=0, help="idle servers that each engine has besides")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    times = measure(options.rounds, options.neighbours)
    if options.json:
        print(json.dumps({"rounds": options.rounds, "neighbours": options.neighbours, "times": times}))
        return
    floor = times[KINDS[0]]
    for kind in KINDS:
        for step in STEPS:
            values = times[kind][step]
            median = statistics.median(values)
            ratio = statistics.median(one / of for one, of in zip(values, floor[step], strict=True))
            print(f"{kind:18} {step:7} median {median:7.1f} ms   x {ratio:.2f}   n={len(values)}")


if __name__ == "__main__":
    main()
