# SPDX-License-Identifier: Apache-2.0
"""Images in registries (OCI Distribution 1.1), for a client that trusts neither what it reads nor where it is sent."""
