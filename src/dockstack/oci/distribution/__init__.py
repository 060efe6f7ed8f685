# SPDX-License-Identifier: Apache-2.0
"""What the cloud's registry and its clients share: how images are told of, and how they go up and come down."""
