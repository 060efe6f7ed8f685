#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tell Open vSwitch about this chassis, before ovs-vswitchd starts.
set -eu

# Parameters: scripts.py fills them in.
datapath=''
settings=''
chassis_options=''
bridges=''
# End of parameters.

if [ "$datapath" = system ]; then
    modprobe openvswitch
fi
version=$(ovs-vswitchd --version | sed -n '1s/.* //p')
set -- "ovs-version=$version"
for setting in $settings; do
    set -- "$@" "$setting"
done
ovs-vsctl --timeout=60 --no-wait -- init -- set Open_vSwitch . "$@"

for bridge in $bridges; do
    ovs-vsctl --timeout=60 --no-wait --may-exist add-br "$bridge" -- set Bridge "$bridge" "datapath_type=$datapath"
done

# Only where nothing is offered yet: what ports may be guaranteed is added when Placement knows the host, and stays.
if [ -n "$chassis_options" ] &&
    [ -z "$(ovs-vsctl --no-wait --if-exists get Open_vSwitch . external-ids:ovn-cms-options)" ]; then
    ovs-vsctl --timeout=60 --no-wait set Open_vSwitch . "external-ids:ovn-cms-options=$chassis_options"
fi
