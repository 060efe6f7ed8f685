# SPDX-License-Identifier: Apache-2.0
"""The extra specs of flavors that this driver reads: ours, and those of the field with what they do here. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExtraSpec:
    """One extra spec.

    Attributes:
        name: as in the flavor.
        kind: int, bool or str.
        help: what it does, and when to set it.
        minimum: of a number.
        maximum: of a number.
        pattern: of a text, a regular expression.
    """

    name: str
    kind: type[int | bool | str]
    help: str
    minimum: int = 1
    maximum: int | None = None
    pattern: str = ".*"


PIDS = "docker:pids_limit"
NOFILE = "docker:nofile_limit"
NO_NEW_PRIVILEGES = "docker:no_new_privileges"
PRIVILEGED = "docker:privileged"
CAP_ADD = "docker:cap_add"
CAP_DROP = "docker:cap_drop"
DEVICES = "docker:devices"
RUNTIME = "docker:runtime"
VOLUME_MOUNTS = "docker:volume_mounts"

MOUNT_POLICIES = ("none", "kernel")  # each allows all that those before it do

CAPABILITY = r"(CAP_|cap_)?[A-Za-z][A-Za-z_]*"
DEVICE = r"/dev/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*"


def _list_of(item: str) -> str:
    return rf"\s*{item}(\s*,\s*{item})*\s*"


# Nova knows these only from us: it refuses any other name that begins with "docker:".
OURS = (
    ExtraSpec(
        PIDS,
        int,
        "How many processes and threads the server may have; [docker] pids_limit if it does not say.",
        minimum=16,
        maximum=4_194_304,
    ),
    ExtraSpec(
        NOFILE,
        int,
        "How many files one process of the server may have open; [docker] nofile_limit if it does not say.",
        minimum=64,
        maximum=1_073_741_816,
    ),
    ExtraSpec(
        NO_NEW_PRIVILEGES,
        bool,
        "Setuid programs, such as sudo and su, gain nothing in the server. Set it for workloads that never need them.",
    ),
    ExtraSpec(
        PRIVILEGED,
        bool,
        "The server may do all that root on the host may: no isolation is left. Only for tenants who may own the host.",
    ),
    ExtraSpec(
        CAP_ADD,
        str,
        "Capabilities beside the usual ones, with commas between: `NET_ADMIN`. Many, such as `SYS_ADMIN`, lead to root "
        "on the host.",
        pattern=_list_of(CAPABILITY),
    ),
    ExtraSpec(
        CAP_DROP,
        str,
        "Usual capabilities that the server does without, with commas between: `NET_RAW`.",
        pattern=_list_of(CAPABILITY),
    ),
    ExtraSpec(
        DEVICES,
        str,
        "Device nodes of the host that the server gets, with commas between: `/dev/fuse,/dev/net/tun`. Hosts that lack "
        "one cannot build the server.",
        pattern=_list_of(DEVICE),
    ),
    ExtraSpec(
        RUNTIME,
        str,
        "The engine's runtime for the server, one of [docker] allowed_runtimes.",
        pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    ),
    ExtraSpec(
        VOLUME_MOUNTS,
        str,
        "How the server may mount its volumes itself, if [docker] volume_mounts allows as much: `none` or `kernel`. "
        "Set it to `none` for tenants whose file systems the host's kernel is not to read.",
        pattern="none|kernel",
    ),
)

SHARES = "quota:cpu_shares"
PERIOD = "quota:cpu_period"
QUOTA = "quota:cpu_quota"
DISK_RATES = {
    f"quota:disk_{way}_{metric}_sec": (way, metric)
    for way in ("read", "write", "total")
    for metric in ("bytes", "iops")
}
BANDWIDTH = {
    f"quota:vif_{way}_{metric}": (way, metric) for way in ("inbound", "outbound") for metric in ("average", "burst")
}

# Nova's own; each is a number there.
FIELDS = {
    SHARES: "The server's weight when processors are short; 1024 for each vCPU if it does not say.",
    PERIOD: "The time in which the quota counts, microseconds from 1000 to 1000000; 100000 if it does not say.",
    QUOTA: "What each vCPU may use of a processor in one period, microseconds; a whole one if it does not say.",
    **{
        name: (
            f"{'Bytes' if metric == 'bytes' else 'Operations'} a second that the server may "
            + (f"{way} on the host's disk." if way != "total" else "read, and as many that it may write.")
        )
        for name, (way, metric) in DISK_RATES.items()
    },
    **{
        name: (
            f"Kilobytes a second that each port may {'receive' if way == 'inbound' else 'send'}."
            if metric == "average"
            else f"Kibibytes that a port may {'receive' if way == 'inbound' else 'send'} at once at full speed."
        )
        for name, (way, metric) in BANDWIDTH.items()
    },
    "hw:cpu_policy": "`dedicated` gives the server processors of its own, of the host's [compute] cpu_dedicated_set; "
    "`mixed` some.",
    "hw:cpu_dedicated_mask": "Which vCPUs have processors of their own, with `mixed`.",
    "hw:cpu_thread_policy": "`prefer`, `isolate` or `require` hyperthreads of one core, for dedicated processors.",
    "hw:numa_nodes": "Spreads the server's dedicated processors and its memory over so many of the host's NUMA nodes.",
}

# What Nova takes and no container can have: a flavor that says so is refused when a server is built.
REFUSED = {
    "quota:vif_inbound_peak": "use quota:vif_inbound_average and quota:vif_inbound_burst",
    "quota:vif_outbound_peak": "use quota:vif_outbound_average and quota:vif_outbound_burst",
    "hw:cpu_realtime": "a container has no real-time priority",
    "hw:emulator_threads_policy": "a container has no emulator",
    "hw:mem_encryption": "a container's memory is the host's",
    "hw:locked_memory": "a container's memory is the host's",
}
