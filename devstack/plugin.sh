#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# DevStack calls this once a phase. What is done for nova-compute is in lib/nova_plugins/hypervisor-docker; here is what
# lib/nova does not call, and what belongs to other services: they may run on another node.

case "$1 ${2:-}" in
"stack pre-install")
    if is_docker_compute && is_service_enabled neutron && [[ "$Q_AGENT" != "ovn" ]]; then
        die $LINENO "Docker servers need OVN (Q_AGENT=ovn, DevStack's default), and Q_AGENT is '$Q_AGENT'."
    fi
    if [[ "$VIRT_DRIVER" != "docker" ]]; then
        echo_summary "dockstack: servers here are not containers, for VIRT_DRIVER is '$VIRT_DRIVER'; only Glance is prepared"
    fi
    # As this user: whatever root runs later finds the command line's environment made.
    dockstack --version
    ;;
"stack post-config")
    if is_service_enabled g-api; then
        echo_summary "Letting Glance take container images"
        dockstack_offer_container_formats
    fi
    if is_docker_compute; then
        echo_summary "Starting Docker for Nova"
        start_nova_hypervisor
    fi
    ;;
"stack extra")
    if is_service_enabled g-api; then
        echo_summary "Building and uploading the base image"
        dockstack_upload_image
    fi
    ;;
"stack test-config")
    if [[ "$VIRT_DRIVER" == "docker" ]] && is_service_enabled tempest; then
        echo_summary "Telling Tempest what Docker servers can do"
        dockstack_configure_tempest
    fi
    if is_docker_compute && is_service_enabled n-api && [[ -n "$DOCKSTACK_VERIFY" ]]; then
        echo_summary "Proving the cloud: $DOCKSTACK_VERIFY"
        dockstack_verify
    fi
    ;;
"clean "*)
    # Where servers run, cleanup_nova_hypervisor still needs it.
    if ! is_docker_compute; then
        dockstack_forget
    fi
    ;;
esac
