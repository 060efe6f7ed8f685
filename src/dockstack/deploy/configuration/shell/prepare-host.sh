#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make the namespaces of a further host on this machine; run again, it changes nothing.
# They are bound to files, so that they outlive all processes in them.
set -eu

# Parameters: scripts.py fills them in.
key=''
hosts=''
network=''
mounts=''
run=''
state=''
own=''
shared_run=''
shared_sys=''
central=''
marker=''
controller=''
storage=''
# End of parameters.

# Runs as a process of the new namespaces: gives the host its own /sys, /run and directories.
set_up_inside() {
    # The links that /sys shows are those of the namespace in which it was mounted.
    for part in $shared_sys; do
        mountpoint -q "/sys/$part" || continue
        mkdir -p "$run/sys/$part"
        mount --rbind "/sys/$part" "$run/sys/$part"
    done
    mount -t sysfs sysfs /sys
    for part in $shared_sys; do
        mountpoint -q "$run/sys/$part" || continue
        mount --rbind "$run/sys/$part" "/sys/$part"
        umount -l "$run/sys/$part"
    done
    for part in $shared_run; do
        [ -d "/run/$part" ] || continue
        mkdir -p "$run/$part"
        mount --rbind "/run/$part" "$run/$part"
    done
    mkdir -p "$run/$central" "$run/ovn"
    mount --bind /run/ovn "$run/$central"
    ln -sfn "/run/$central/ovnnb_db.sock" "/run/$central/ovnsb_db.sock" "$run/ovn/"
    for directory in $own; do
        mkdir -p "$state$directory" "$directory"
        mount --bind "$state$directory" "$directory"
    done
    mount --rbind "$run" /run
    : > "$marker"
}

if [ "${1:-}" = inside ]; then
    set_up_inside
    exit
fi

install -d -m 755 "$hosts" "$state" /run/netns
exec 9> "$hosts/$key.lock"
flock 9
if ! nsenter --net="/run/netns/$network" true 2>/dev/null; then
    ip netns delete "$network" 2>/dev/null || rm -f "/run/netns/$network"
    ip netns add "$network"
fi
ip -netns "$network" link set lo up
# The controller's address answers in the host, where haproxy forwards it; empty where that is a loopback's.
if [ -n "$controller" ]; then
    ip -netns "$network" address replace "$controller/32" dev lo
fi
if ! nsenter --mount="$mounts" test -e "$marker" 2>/dev/null; then
    mountpoint -q "$hosts" || mount --bind "$hosts" "$hosts"
    mount --make-private "$hosts"
    umount "$mounts" 2>/dev/null || true
    rm -rf "$run"
    install -d -m 755 "$run" "$run/netns" "$run/openvswitch" /run/ovn /run/dockstack/memcached
    install -d -m 1777 "$run/lock"
    : > "$mounts"
    if [ -n "$storage" ]; then
        mountpoint -q "$storage" || mount "$storage"
    fi
    unshare --mount="$mounts" --propagation slave nsenter --net="/run/netns/$network" "$0" inside
fi
