#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make the command line's environment on a node, as node/environments.py does on this machine. On standard input is an
# archive (tar.gz, base64): the lock, its entry for uv, and dockstack's wheel. What says that all is there comes last.
set -eu

# Parameters: command_line.py fills them in.
environment=''
uv=''
state=''
guard=''
python=''
packages=''
install=''
index=''
lock=''
version=''
# End of parameters.

umask 022
mkdir -p "$environment" "$state"
chmod 700 "$state"
exec 9>>"$guard"
flock 9 # a run that a lost connection left behind comes to its end first: what it is made of is about to change
printf '{"pid": %s, "command": "node add", "since": "%s"}' "$$" "$(date +%T)" >"$guard"
shipped=$environment/.dockstack-shipped
unfinished=$environment/.dockstack-unfinished
rm -rf "$shipped"
mkdir "$shipped"
base64 -d | tar -xzf - -C "$shipped" --no-same-owner
if [ -n "$index" ]; then
    export UV_DEFAULT_INDEX="$index" PIP_INDEX_URL="$index"
fi

if ! "$uv/bin/uv" --version >/dev/null 2>&1; then
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        for package in $packages; do
            printf '{"kind": "package", "name": "%s", "backup": null}\n' "$package" >>"$state/manifest.jsonl"
        done
        case $install in
        apt-get*) apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null ;;
        esac
        # shellcheck disable=SC2086 # both are words
        DEBIAN_FRONTEND=noninteractive $install -y $packages >/dev/null
    fi
    "$python" -m venv --clear "$uv"
    "$uv/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$shipped/uv.txt"
fi

again=
if [ -e "$unfinished" ]; then
    again=--reinstall
fi
touch "$unfinished"
if ! "$environment/bin/python" -c '' 2>/dev/null; then
    "$uv/bin/uv" venv -q --allow-existing --python "$python" "$environment"
fi
set -- --compile-bytecode --python "$environment/bin/python"
"$uv/bin/uv" pip install -q --require-hashes $again "$@" -r "$shipped/cli.txt"
"$uv/bin/uv" pip install -q --offline --no-deps --reinstall "$@" "$shipped"/*.whl
printf '%s\n' "$lock" >"$environment/.dockstack-lock"
printf '%s\n' "$version" >"$environment/.dockstack-wheel"
sync "$environment/.dockstack-lock" "$environment/.dockstack-wheel"
rm -rf "$shipped" "$unfinished"
