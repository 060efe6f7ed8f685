#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Keep what a node runs with, before an upgrade changes it: the environments with all their code, and what the node was
# told. What an upgrade that was killed has kept stays: that is what worked. What it has put back already, is kept anew.
set -eu

# Parameters: upgrading.py fills them in.
environments=''
commission=''
former=''
guard=''
# End of parameters.

exec 9>>"$guard"
flock 9 # a run that a lost connection left behind comes to its end first
printf '{"pid": %s, "command": "node upgrade", "since": "%s"}' "$$" "$(date +%T)" >"$guard"
if [ ! -e "$former/.whole" ]; then
    rm -rf "$former"
    mkdir -m 700 "$former"
fi
keep() {
    if [ ! -e "$former/$2" ]; then
        rm -rf "$former/part"
        # Copies, and no hard links: some files are written in place.
        cp -a --reflink=auto "$1" "$former/part"
        mv "$former/part" "$former/$2"
    fi
}
for environment in $environments; do
    keep "$environment" "${environment##*/}"
done
keep "$commission" commission.json
sync -f "$former"
: >"$former/.whole"
