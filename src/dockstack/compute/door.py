# SPDX-License-Identifier: Apache-2.0
# dockstack's door into Nova: `dockstack driver install` writes this file, and overwrites what is changed in it.
"""Nova's door: ``compute_driver = docker.DockerDriver`` resolves here (nova/virt/driver.py:load_compute_driver)."""

from dockstack.compute.driver import DockerDriver

__all__ = ["DockerDriver"]
