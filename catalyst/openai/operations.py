"""The OpenAI API, operation by operation: `operations.json` declares them, named as in the official SDK."""

import zlib

from catalyst.sdk.manifest import declared_operations

OPERATIONS = declared_operations(__file__, optional="model input")

with open(__file__.rpartition("/")[0] + "/operations.json", "rb") as file:  # noqa: PTH123 - pathlib would stay in the component
    DECLARED = zlib.compress(file.read(), 9)
"""All of the declaration, for who asks what there is."""
