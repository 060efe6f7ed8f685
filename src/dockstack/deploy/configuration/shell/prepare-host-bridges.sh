#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bring up the bridges of a further host, as a process of that host; run again, it changes nothing.
set -eu

# Parameters: scripts.py fills them in.
bridge=''
tunnel=''
external_bridge=''
external=''
datapath=''
address=''
# End of parameters.

# ovs-vsctl waits for a change only, so make one: see prepare-external-bridge.sh.
change=$(cat /proc/sys/kernel/random/uuid)
ovs-vsctl --timeout=60 --may-exist add-br "$bridge" \
    -- set Bridge "$bridge" "datapath_type=$datapath" "external-ids:dockstack-prepared=$change" \
    -- --may-exist add-port "$bridge" "$tunnel" \
    -- --may-exist add-br "$external_bridge" -- set Bridge "$external_bridge" "datapath_type=$datapath" \
    -- --may-exist add-port "$external_bridge" "$external"
ip address replace "$address" dev "$bridge"
ip link set "$bridge" up
ip link set "$external_bridge" up
