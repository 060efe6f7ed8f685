# SPDX-License-Identifier: Apache-2.0
"""What waited for what in a run of ``up``: recorded from its events, as a page or as a table."""
