# SPDX-License-Identifier: Apache-2.0
"""What servers and their host use, for those who watch a cloud: Prometheus and Ceilometer."""
