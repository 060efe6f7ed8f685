#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bring up the external bridge, with NAT behind it if wanted; run again, it changes nothing.
set -eu

# Parameters: scripts.py fills them in.
bridge=''
datapath=''
gateway=''
cidr=''
masquerade=''
engine_bridges=''
# End of parameters.

# After a boot the database has the bridge and the kernel does not yet: ovs-vsctl waits for a change only, so make one.
change=$(cat /proc/sys/kernel/random/uuid)
ovs-vsctl --timeout=60 --may-exist add-br "$bridge" \
    -- set Bridge "$bridge" "datapath_type=$datapath" "external-ids:dockstack-prepared=$change"
ip address replace "$gateway" dev "$bridge"
ip link set "$bridge" up
[ "$masquerade" = yes ] || exit 0

# Each rule is inserted above the one before, and all of them above an engine's, whose FORWARD policy is DROP. The comment
# is how `clean` finds them.
rule() {
    table=$1 chain=$2
    shift 2
    set -- "$@" -m comment --comment dockstack
    iptables -w -t "$table" -C "$chain" "$@" 2>/dev/null || iptables -w -t "$table" -I "$chain" "$@"
}
sysctl -q -w net.ipv4.ip_forward=1
rule nat POSTROUTING -s "$cidr" ! -d "$cidr" -j MASQUERADE
rule filter FORWARD -i "$bridge" -j ACCEPT
# Servers reach of the machine's own containers what those have published, as from anywhere else on the network.
for engine_bridge in $engine_bridges; do
    rule filter FORWARD -i "$bridge" -o "$engine_bridge" -m conntrack ! --ctstate DNAT,ESTABLISHED,RELATED -j DROP
done
rule filter FORWARD -o "$bridge" -j ACCEPT
