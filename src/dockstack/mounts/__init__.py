# SPDX-License-Identifier: Apache-2.0
"""The mount broker: what answers a server's mount(2), which the server itself has no right to (docs/adr/0025)."""
