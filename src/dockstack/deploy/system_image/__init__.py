# SPDX-License-Identifier: Apache-2.0
"""System images: Debian with systemd, cloud-init and an SSH server, built from the distribution's packages."""
