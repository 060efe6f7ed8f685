#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Keep what a node runs with, before an upgrade changes it: the environments with all their code, and what the node was
# told. What an upgrade that was killed has kept stays: that is what worked.
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
if [ -e "$former/.whole" ]; then
    exit 0
fi
rm -rf "$former"
mkdir -m 700 "$former"
for environment in $environments; do
    # Copies, and no hard links: some files are written in place.
    cp -a --reflink=auto "$environment" "$former/"
done
cp -a "$commission" "$former/commission.json"
sync -f "$former"
: >"$former/.whole"
