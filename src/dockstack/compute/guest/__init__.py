# SPDX-License-Identifier: Apache-2.0
"""Who a server is and what it is given: its config drive, its owner's keys and files, its passwords."""
