"""The operations of a catalyst whose manifest names none: those that CYFR's OpenAI catalyst has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from host.operations import OperationSpec

_ROWS: Final = (
    OperationSpec("chat.completions.create", method="POST", path="/chat/completions", request="json", stream=True),
    OperationSpec("models.list", method="GET", path="/models"),
    OperationSpec("models.get", method="GET", path="/models/{model_id}", in_path=("model_id",)),
    OperationSpec("embeddings.create", method="POST", path="/embeddings", request="json"),
    OperationSpec("moderations.create", method="POST", path="/moderations", request="json"),
    OperationSpec("images.generate", method="POST", path="/images/generations", request="json"),
    OperationSpec("audio.speech", method="POST", path="/audio/speech", request="json", response="binary"),
    OperationSpec("audio.transcriptions", method="POST", path="/audio/transcriptions", request="multipart"),
    OperationSpec("audio.translations", method="POST", path="/audio/translations", request="multipart"),
    OperationSpec("responses.create", method="POST", path="/responses", request="json"),
    OperationSpec("files.list", method="GET", path="/files"),
    OperationSpec("files.get", method="GET", path="/files/{file_id}", in_path=("file_id",)),
    OperationSpec("files.delete", method="DELETE", path="/files/{file_id}", in_path=("file_id",)),
)

KNOWN: Final[Mapping[str, OperationSpec]] = {one.name: one for one in _ROWS}
