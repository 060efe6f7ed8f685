#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A stub of the functions of DevStack that the plugin and the hypervisor's entry points use, and of what calls them.
# shellcheck disable=SC2034  # the plugin reads these variables

eval "$LOCALRC"
ENABLED_SERVICES=${ENABLED_SERVICES:-key,n-api,n-cpu,n-novnc,g-api,q-svc,q-ovn-agent,ovn-controller}
VIRT_DRIVER=${VIRT_DRIVER:-libvirt}
if [[ $VIRT_DRIVER == docker ]]; then
    DOCKER_GROUP=${DOCKER_GROUP:-docker}
fi
Q_AGENT=${Q_AGENT:-ovn}
GLOBAL_VENV=${GLOBAL_VENV:-True}
PRIVATE_NETWORK_NAME=${PRIVATE_NETWORK_NAME:-private}
PYTHON3_VERSION=3
DATA_DIR=$ROOT/data
declare -A PROJECT_VENV

function is_service_enabled {
    local service
    for service in "$@"; do
        case $service in
        nova) [[ ,$ENABLED_SERVICES == *,n-* ]] && return 0 ;;
        neutron) [[ ,$ENABLED_SERVICES == *,q-* ]] && return 0 ;;
        cinder) [[ ,$ENABLED_SERVICES == *,c-* ]] && return 0 ;;
        *) [[ ,$ENABLED_SERVICES, == *,$service,* ]] && return 0 ;;
        esac
    done
    return 1
}

function is_ubuntu {
    [[ ${DISTRO:-bookworm} != rhel* ]]
}

function get_python_exec_prefix {
    echo "$ROOT/venv/bin"
}

function echo_summary {
    echo "$@"
}

function die {
    echo "[ERROR] line $1 ${*:2}"
    exit 1
}

# One line an option, of which the last counts.
function iniset {
    echo "$2.$3=$4" >>"$1"
}

function run_phase {
    case $1 in
    override_defaults)
        # shellcheck source=/dev/null
        source "$PLUGIN/devstack/override-defaults"
        ;;
    source) load_plugin_settings ;;
    *) run_plugins "$@" ;;
    esac
}

function load_plugin_settings {
    # shellcheck source=/dev/null
    source "$PLUGIN/devstack/settings"
}

function run_plugins {
    # shellcheck source=/dev/null
    source "$PLUGIN/devstack/plugin.sh" "$@"
}

function read_libraries {
    NOVA_PLUGINS=$TOP_DIR/lib/nova_plugins
    NOVA_BIN_DIR=$(get_python_exec_prefix)
    GLANCE_BIN_DIR=$NOVA_BIN_DIR
    if [[ "${USE_VENV:-False}" == "True" ]]; then
        PROJECT_VENV["nova"]=$ROOT/nova.venv
    fi
    NOVA_CONF=$ROOT/nova.conf
    GLANCE_API_CONF=$ROOT/glance-api.conf
    TEMPEST_CONFIG=$ROOT/tempest.conf
    if is_service_enabled nova && [[ -r $NOVA_PLUGINS/hypervisor-$VIRT_DRIVER ]]; then
        # shellcheck source=/dev/null
        source "$NOVA_PLUGINS/hypervisor-$VIRT_DRIVER"
    fi
}

function install_nova {
    if is_service_enabled n-cpu && [[ -r $NOVA_PLUGINS/hypervisor-$VIRT_DRIVER ]]; then
        install_nova_hypervisor
    fi
    setup_develop "$ROOT/dest/nova"
}

function configure_nova {
    rm -f "$NOVA_CONF"
    iniset "$NOVA_CONF" DEFAULT debug True
    if is_service_enabled n-cpu && [[ -r $NOVA_PLUGINS/hypervisor-$VIRT_DRIVER ]]; then
        configure_nova_hypervisor
    fi
}

function start_nova_compute {
    cp "$NOVA_CONF" "$ROOT/nova-cpu.conf"
    run_process n-cpu "$NOVA_BIN_DIR/nova-compute" "${DOCKER_GROUP:-}"
}

function stop_nova_compute {
    stop_process n-cpu
    if is_service_enabled n-cpu && [[ -r $NOVA_PLUGINS/hypervisor-$VIRT_DRIVER ]]; then
        stop_nova_hypervisor
    fi
}
