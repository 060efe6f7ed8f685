#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack's own functions, from a tree that was copied to $TOP_DIR.
# shellcheck disable=SC2034,SC1090,SC1091  # they read these variables; the tree is not there when this is checked

cat >"$TOP_DIR/local.conf" <<CONF
[[local|localrc]]
ENABLED_SERVICES=key,n-api,n-cpu,n-novnc,placement-api,placement-client,g-api,q-svc,q-ovn-agent,ovn-controller,rabbit,mysql
$LOCALRC
DEST=$ROOT
enable_plugin dockstack $PLUGIN
ADMIN_PASSWORD=a
DATABASE_PASSWORD=b
RABBIT_PASSWORD=c
SERVICE_PASSWORD=d
HOST_IP=192.0.2.1
DATA_DIR=$ROOT/data
DEVSTACK_VENV=$ROOT/venv
CONF
source "$TOP_DIR/inc/meta-config"
rm -f "$TOP_DIR/.localrc.auto"
extract_localrc_section "$TOP_DIR/local.conf" "$TOP_DIR/localrc" "$TOP_DIR/.localrc.auto"
FILES=$TOP_DIR/files
source "$TOP_DIR/functions"
source "$TOP_DIR/stackrc"
GetDistro
STACK_USER=$(id -un)
SERVICE_HOST=$HOST_IP
SERVICE_LOCAL_HOST=127.0.0.1
CELLSV2_SETUP=superconductor
mkdir -p "$DEST/nova/etc/nova" "$DATA_DIR" "$ROOT/etc"
touch "$DEST/nova/etc/nova/api-paste.ini"

function read_libraries {
    local library
    for library in database rpc_backend apache tls infra libraries lvm keystone glance nova placement cinder neutron; do
        source "$TOP_DIR/lib/$library"
    done
    NOVA_CONF_DIR=$ROOT/etc
    NOVA_CONF=$ROOT/nova.conf
    NOVA_COND_CONF=$NOVA_CONF
    NOVA_CPU_CONF=$ROOT/nova-cpu.conf
    GLANCE_API_CONF=$ROOT/glance-api.conf
    TEMPEST_CONFIG=$ROOT/tempest.conf
    initialize_database_backends || true
}
