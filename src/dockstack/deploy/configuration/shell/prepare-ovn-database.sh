#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make OVN's database $1 (nb or sb), or bring it to the installed version's schema.
set -eu

schema="/usr/share/ovn/ovn-$1.ovsschema"
database="/var/lib/ovn/ovn$1_db.db"
install -d -m 755 /run/ovn /var/lib/ovn /var/log/ovn
if [ ! -s "$database" ]; then
    rm -f "$database" "$database.new"
    # It has its name only when it is whole: power may fail in between.
    ovsdb-tool create "$database.new" "$schema"
    mv "$database.new" "$database"
elif [ "$(ovsdb-tool needs-conversion "$database" "$schema")" = yes ]; then
    ovsdb-tool convert "$database" "$schema"
fi
