# SPDX-License-Identifier: Apache-2.0
"""What dockstack adds to Neutron's agent on a compute node."""
