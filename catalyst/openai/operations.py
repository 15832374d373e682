"""The OpenAI API, operation by operation, named as in the official SDK; paths are relative to `base_url`.

What `aliases` and `renamed` hold are CYFR's names for the same things.
"""

from catalyst.sdk.operation import Operation

CHAT = [
    Operation(
        name="chat.completions.create",
        method="POST",
        path="/chat/completions",
        request="json",
        stream=True,
        params="model:str messages:list",
    ),
    Operation(
        name="completions.create",
        method="POST",
        path="/completions",
        request="json",
        stream=True,
        params="model:str prompt:str|list",
    ),
]

RESPONSES = [
    Operation(
        name="responses.create",
        method="POST",
        path="/responses",
        request="json",
        stream=True,
        params="model?:str input?:str|list",
    ),
    Operation(
        name="responses.retrieve",
        aliases="responses.get",
        method="GET",
        path="/responses/{response_id}",
        stream=True,
        query="include include_obfuscation starting_after stream",
    ),
    Operation(name="responses.delete", method="DELETE", path="/responses/{response_id}"),
]

MODELS = [
    Operation(name="models.list", method="GET", path="/models"),
    Operation(
        name="models.retrieve",
        aliases="models.get",
        method="GET",
        path="/models/{model}",
        renamed={"model_id": "model"},
    ),
]

TEXT = [
    Operation(
        name="embeddings.create",
        method="POST",
        path="/embeddings",
        request="json",
        params="model:str input:str|list",
    ),
    Operation(
        name="moderations.create",
        method="POST",
        path="/moderations",
        request="json",
        params="input:str|list model?:str",
    ),
]

IMAGES = [
    Operation(
        name="images.generate",
        method="POST",
        path="/images/generations",
        request="json",
        stream=True,
        params="prompt:str model?:str",
    ),
]

AUDIO = [
    Operation(
        name="audio.speech.create",
        aliases="audio.speech",
        method="POST",
        path="/audio/speech",
        request="json",
        response="binary",
        params="model:str input:str voice:str|object",
    ),
    Operation(
        name="audio.transcriptions.create",
        aliases="audio.transcriptions",
        method="POST",
        path="/audio/transcriptions",
        request="multipart",
        stream=True,
        params="file:file model:str",
        plain="text srt vtt",
    ),
    Operation(
        name="audio.translations.create",
        aliases="audio.translations",
        method="POST",
        path="/audio/translations",
        request="multipart",
        params="file:file model:str",
        plain="text srt vtt",
    ),
]

FILES = [
    Operation(
        name="files.create",
        method="POST",
        path="/files",
        request="multipart",
        params="file:file purpose:str",
    ),
    Operation(name="files.list", method="GET", path="/files", query="after limit order purpose"),
    Operation(name="files.retrieve", aliases="files.get", method="GET", path="/files/{file_id}"),
    Operation(name="files.content", method="GET", path="/files/{file_id}/content", response="binary"),
    Operation(name="files.delete", method="DELETE", path="/files/{file_id}"),
]

OPERATIONS = [*CHAT, *RESPONSES, *MODELS, *TEXT, *IMAGES, *AUDIO, *FILES]
