# SPDX-License-Identifier: Apache-2.0
"""Which settings of its network a server may change, as the owner of a machine does.

Below /proc/sys/net a process sees the settings of its own network namespace and no others. Not all of those are safe:
what bounds the memory of the kernel's queues (``ipfrag_high_thresh``, neighbours' ``gc_thresh``, the sizes of
netfilter's tables) counts to nobody's flavor. Here is what changes how one's own packets and sockets are treated.
"""

from __future__ import annotations

# Directories with all that is in them, and files (kernel: Documentation/networking/ip-sysctl.rst)
WRITABLE = tuple(
    f"/proc/sys/net/{name}"
    for name in (
        *("core/somaxconn", "ipv4/conf", "ipv4/ip_forward", "ipv4/ip_nonlocal_bind", "ipv4/ip_unprivileged_port_start"),
        *("ipv4/ip_default_ttl", "ipv4/ip_local_port_range", "ipv4/ip_local_reserved_ports", "ipv4/ping_group_range"),
        *("ipv4/icmp_echo_ignore_all", "ipv4/icmp_echo_ignore_broadcasts", "ipv4/fib_multipath_hash_policy"),
        *("ipv4/tcp_congestion_control", "ipv4/tcp_ecn", "ipv4/tcp_fastopen", "ipv4/tcp_fin_timeout"),
        *("ipv4/tcp_keepalive_intvl", "ipv4/tcp_keepalive_probes", "ipv4/tcp_keepalive_time", "ipv4/tcp_mtu_probing"),
        *("ipv4/tcp_retries2", "ipv4/tcp_sack", "ipv4/tcp_slow_start_after_idle", "ipv4/tcp_syn_retries"),
        *("ipv4/tcp_syncookies", "ipv4/tcp_timestamps", "ipv4/tcp_tw_reuse"),
        *("ipv6/bindv6only", "ipv6/conf", "ipv6/ip_nonlocal_bind"),
    )
)
