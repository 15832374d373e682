"""The OpenAI API, operation by operation: the manifest declares them, named as in the official SDK.

Here is what a manifest cannot say.
"""

from catalyst.sdk.manifest import declared_operations

_TRANSCRIPTS = "text srt vtt"  # values of `response_format` with an answer in plain text

OPERATIONS = declared_operations(
    __file__,
    optional="model input",
    plain={"audio.transcriptions.create": _TRANSCRIPTS, "audio.translations.create": _TRANSCRIPTS},
    renamed={"models.retrieve": {"model_id": "model"}},  # CYFR's spelling
)
