# SPDX-License-Identifier: Apache-2.0
"""Nova's door: ``compute_driver = docker.DockerDriver`` resolves here (nova/virt/driver.py:load_compute_driver)."""

from dockstack.compute.driver import DockerDriver

__all__ = ["DockerDriver"]
