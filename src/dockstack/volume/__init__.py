# SPDX-License-Identifier: Apache-2.0
"""Volumes as files: a driver for cinder-volume, which loads it as ``dockstack.volume.file.FileDriver``."""
