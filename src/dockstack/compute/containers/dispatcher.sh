#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# OCI runtime of dockstack's servers. Only the calls that read a bundle's config.json meet the editor, and a start that is
# held; everything else is the real runtime's at once. A word that only looks like such a call costs time, no harm: the
# editor reads the line properly.
edit() {
	exec @PYTHON@ -I -S "${0%/*}/dockstack-runtime-editor" @RUNC@ @PATCHES@ @SOURCES@ "$@"
}
for word in "$@"; do
	case $word in
	create | restore | run) edit "$@" ;;
	start)
		for identity in "$@"; do :; done
		if [ -e @PATCHES@/"$identity.held" ]; then edit "$@"; fi
		;;
	esac
done
exec @RUNC@ "$@"
