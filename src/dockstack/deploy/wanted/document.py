# SPDX-License-Identifier: Apache-2.0
"""Read YAML so that a file mode such as ``0660`` stays what was written; YAML 1.1 would make it the number 432."""

from __future__ import annotations

import re
from typing import Any

import yaml

INTEGER_TAG = "tag:yaml.org,2002:int"
DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads a leading zero as octal and 1:30 as base 60; here, only plain decimal numbers are integers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != INTEGER_TAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(INTEGER_TAG, re.compile(rf"^(?:{DECIMAL.pattern})$"), list("-+0123456789"))


def parse(text: str) -> Any:
    """Parse a document.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - the loader is a safe one
