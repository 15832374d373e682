"""The OpenAI API, operation by operation, named as in the official SDK; paths are relative to `base_url`.

What `aliases` and `renamed` hold are CYFR's names for the same things.
"""

from functools import partial

from catalyst.sdk.operation import Operation

get = partial(Operation, "GET")
delete = partial(Operation, "DELETE")
post = partial(Operation, "POST", request="json")
upload = partial(Operation, "POST", request="multipart")

CHAT = [
    post("chat.completions.create", "/chat/completions", params="model:str messages:list", stream=True),
    post("completions.create", "/completions", params="model:str prompt:str|list", stream=True),
]

RESPONSES = [
    post("responses.create", "/responses", params="model?:str input?:str|list", stream=True),
    get(
        "responses.retrieve",
        "/responses/{response_id}",
        aliases="responses.get",
        query="include include_obfuscation starting_after stream",
        stream=True,
    ),
    delete("responses.delete", "/responses/{response_id}"),
]

MODELS = [
    get("models.list", "/models"),
    get("models.retrieve", "/models/{model}", aliases="models.get", renamed={"model_id": "model"}),
]

TEXT = [
    post("embeddings.create", "/embeddings", params="model:str input:str|list"),
    post("moderations.create", "/moderations", params="input:str|list model?:str"),
]

IMAGES = [
    post("images.generate", "/images/generations", params="prompt:str model?:str", stream=True),
]

AUDIO = [
    post(
        "audio.speech.create",
        "/audio/speech",
        aliases="audio.speech",
        params="model:str input:str voice:str|object",
        response="binary",
    ),
    upload(
        "audio.transcriptions.create",
        "/audio/transcriptions",
        aliases="audio.transcriptions",
        params="file:file model:str",
        plain="text srt vtt",
        stream=True,
    ),
    upload(
        "audio.translations.create",
        "/audio/translations",
        aliases="audio.translations",
        params="file:file model:str",
        plain="text srt vtt",
    ),
]

FILES = [
    upload("files.create", "/files", params="file:file purpose:str"),
    get("files.list", "/files", query="after limit order purpose"),
    get("files.retrieve", "/files/{file_id}", aliases="files.get"),
    get("files.content", "/files/{file_id}/content", response="binary"),
    delete("files.delete", "/files/{file_id}"),
]

OPERATIONS = [*CHAT, *RESPONSES, *MODELS, *TEXT, *IMAGES, *AUDIO, *FILES]
