"""The OpenAI API, operation by operation: `operations.json` declares them, named as in the official SDK."""

from catalyst.sdk.manifest import declared_operations

OPERATIONS = declared_operations(__file__, optional="model input")
