#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# drive.sh stub|tree stack|unstack|clean: what DevStack's script of that name does with a plugin and a hypervisor, in
# its order, with our stub of its functions or with its own. Nothing but $ROOT is touched: what would install, start or
# become root is noted in $ROOT/notes instead.
# shellcheck disable=SC2034  # what is read here reads these variables

here=$(dirname "${BASH_SOURCE[0]}")
PLUGIN=$ROOT/dockstack
TOP_DIR=$ROOT/devstack
STACK_USER=$(id -un) # lib/infra asks for the ids of one that there is
export TMPDIR=$ROOT

function note {
    echo "$*" >>"$ROOT/notes"
}

# Becoming root is noted; only the plugin's own command line, which is a stub, and its own files are really reached.
function sudo {
    note sudo "$@"
    if [[ " $* " == *" $PLUGIN/"* ]]; then
        AS_ROOT=1 env "$@"
    fi
}

# As in stack.sh.
function err_trap {
    local r=$?
    echo "drive.sh failed"
    exit $r
}

function record_changes {
    local name
    for name in install_package git_clone git_timed setup_develop start_service restart_service stop_process \
        openstack write_uwsgi_config; do
        eval "function $name { note $name \"\$@\"; }"
    done
    function pip_install {
        note pip_install "venv=${PIP_VIRTUAL_ENV:-}" "$@"
    }
    function pip_uninstall {
        note pip_uninstall "$@"
    }
    function run_process {
        note run_process "$@"
    }
}

function stack {
    run_phase override_defaults
    read_libraries
    run_phase source
    note chosen "$OVN_AGENT_EXTENSIONS" "$DEFAULT_IMAGE_NAME" "$DEFAULT_INSTANCE_USER"
    run_phase stack pre-install
    install_nova
    configure_nova
    run_phase stack install
    run_phase stack post-config
    if is_service_enabled n-cpu; then
        start_nova_compute
    fi
    run_phase stack extra
    ENABLED_SERVICES+=",tempest" # only now: Tempest's own part would install it
    run_plugins stack test-config
}

function unstack {
    run_phase override_defaults
    read_libraries
    load_plugin_settings
    run_phase unstack
    stop_nova_compute
}

# clean.sh has had unstack.sh run; it knows no override_defaults.
function clean {
    read_libraries
    load_plugin_settings
    run_phase clean
    if is_service_enabled nova && [[ -r $NOVA_PLUGINS/hypervisor-$VIRT_DRIVER ]]; then
        cleanup_nova_hypervisor
    fi
}

# shellcheck source=/dev/null
source "$here/$1.sh"
record_changes
if [[ $2 == stack ]]; then # the others do not end at errors
    trap err_trap ERR
    set -o errexit
fi
"$2"
