#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Put back what keep-former has kept, as an upgrade has failed; the node's next run makes all else fit it again. Killed
# at any moment, it is done again.
set -eu

# Parameters: upgrading.py fills them in.
environments=''
commission=''
former=''
guard=''
# End of parameters.

exec 9>>"$guard"
flock 9
printf '{"pid": %s, "command": "node upgrade", "since": "%s"}' "$$" "$(date +%T)" >"$guard"
if [ ! -e "$former/.whole" ]; then
    echo "$former is not whole: nothing was kept." >&2
    exit 1
fi
for environment in $environments; do
    kept="$former/${environment##*/}"
    if [ -d "$kept" ]; then
        rm -rf "$environment.failed"
        if [ -d "$environment" ]; then
            mv "$environment" "$environment.failed"
        fi
        mv "$kept" "$environment"
    fi
    rm -rf "$environment.failed"
done
if [ -e "$former/commission.json" ]; then
    mv "$former/commission.json" "$commission"
fi
