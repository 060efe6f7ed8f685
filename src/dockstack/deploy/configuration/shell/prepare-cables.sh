#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Join a further host's switch to the machine's: a veth pair for tunnels and one for the external network.
# Run again, it changes nothing.
set -eu

# Parameters: scripts.py fills them in.
network=''
tunnel=''
tunnel_end=''
external=''
external_end=''
bridge=''
external_bridge=''
datapath=''
gateway=''
# End of parameters.

quiet() {
    # The switch reads these devices beside the kernel, which must not answer on them, too.
    sysctl -qw "net.ipv4.conf.$1.arp_ignore=8"
    test ! -e /proc/sys/net/ipv6 || sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"
}
if [ "${1:-}" = quiet ]; then
    quiet "$2"
    exit
fi

cable() {
    ip link show "$1" >/dev/null 2>&1 || ip link add "$1" type veth peer name "$2" netns "$network"
    quiet "$1"
    nsenter --net="/run/netns/$network" "$0" quiet "$2"
    ip link set "$1" up
    ip -netns "$network" link set "$2" up
}
cable "$tunnel" "$tunnel_end"
cable "$external" "$external_end"

# ovs-vsctl waits for a change only, so make one: see prepare-external-bridge.sh.
change=$(cat /proc/sys/kernel/random/uuid)
ovs-vsctl --timeout=60 --may-exist add-br "$bridge" \
    -- set Bridge "$bridge" "datapath_type=$datapath" "external-ids:dockstack-prepared=$change" \
    -- --may-exist add-port "$bridge" "$tunnel" \
    -- --may-exist add-port "$external_bridge" "$external"
ip address replace "$gateway" dev "$bridge"
ip link set "$bridge" up
if [ "$datapath" = netdev ]; then
    # What this machine sends into the external network may be for a server behind a tunnel, where the userspace switch
    # would drop unfinished checksums.
    ethtool -K "$external_bridge" tx off > /dev/null
fi
for way in -i -o; do
    set -- "$way" "$bridge" -j DROP -m comment --comment dockstack
    iptables -w -C FORWARD "$@" 2>/dev/null || iptables -w -I FORWARD "$@"
done
