#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# OCI runtime of dockstack's servers. Only the calls that read a bundle's config.json meet the editor; everything else is
# the real runtime's at once. A word that only looks like such a call costs time, no harm: the editor reads the line properly.
for word in "$@"; do
	case $word in
	create | restore | run)
		exec @PYTHON@ -I -S "${0%/*}/dockstack-runtime-editor" @RUNC@ @PATCHES@ @SOURCES@ "$@"
		;;
	esac
done
exec @RUNC@ "$@"
