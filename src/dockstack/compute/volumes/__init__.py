# SPDX-License-Identifier: Apache-2.0
"""Volumes: how this host reaches them, and what a server sees of them."""
