#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make Open vSwitch's configuration database, or bring it to the installed version's schema.
set -eu

schema=/usr/share/openvswitch/vswitch.ovsschema
database=/etc/openvswitch/conf.db
install -d -m 755 /run/openvswitch /etc/openvswitch /var/log/openvswitch
if [ ! -s "$database" ]; then
    rm -f "$database" "$database.new"
    # It has its name only when it is whole: power may fail in between.
    ovsdb-tool create "$database.new" "$schema"
    mv "$database.new" "$database"
elif [ "$(ovsdb-tool needs-conversion "$database" "$schema")" = yes ]; then
    ovsdb-tool convert "$database" "$schema"
fi
