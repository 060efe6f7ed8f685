# SPDX-License-Identifier: Apache-2.0
"""A ready-made cloud in a file: what ``up`` fetches and makes, and nothing that is one cloud's own."""
