# SPDX-License-Identifier: Apache-2.0
"""Pure builders: from a cloud's Settings to the text of configuration files."""
