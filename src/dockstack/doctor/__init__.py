# SPDX-License-Identifier: Apache-2.0
"""A doctor for machines and their cloud: what is missing, what that means, what to do; the checks are in checks.py."""
