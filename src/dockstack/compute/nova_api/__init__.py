# SPDX-License-Identifier: Apache-2.0
"""All that the driver knows of Nova beside its virt interface: objects, Glance, Neutron's events, faults."""
