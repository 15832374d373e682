"""Which handler answers which method and path."""

from __future__ import annotations

from urllib.parse import unquote

from host.fakes.openai import (
    audio,
    chat,
    completions,
    embeddings,
    errors,
    files,
    images,
    models,
    moderations,
    responses,
)
from host.fakes.openai.call import Handler

Table = dict[str, dict[str, Handler]]

API: Table = {
    "/v1/chat/completions": {"POST": chat.create},
    "/v1/completions": {"POST": completions.create},
    "/v1/embeddings": {"POST": embeddings.create},
    "/v1/models": {"GET": models.index},
    "/v1/models/{model}": {"GET": models.retrieve},
    "/v1/images/generations": {"POST": images.generate},
    "/v1/moderations": {"POST": moderations.create},
    "/v1/audio/speech": {"POST": audio.speech},
    "/v1/audio/transcriptions": {"POST": audio.transcribe},
    "/v1/audio/translations": {"POST": audio.translate},
    "/v1/files": {"GET": files.index, "POST": files.create},
    "/v1/files/{file_id}": {"GET": files.retrieve, "DELETE": files.delete},
    "/v1/files/{file_id}/content": {"GET": files.content},
    "/v1/responses": {"POST": responses.create},
    "/v1/responses/{response_id}": {"GET": responses.retrieve, "DELETE": responses.delete},
    "/v1/responses/{response_id}/input_items": {"GET": responses.input_items},
    "/images/{name}": {"GET": images.picture},
}


class Routes:
    def __init__(self, table: Table) -> None:
        self._exact = table
        self._templates = [(path.split("/"), methods) for path, methods in table.items() if "{" in path]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler, and the decoded parameters of the path. HEAD is answered like GET, without the body. Raises
        ApiError: 404 for a path that nothing has, 405 for a method that it does not have."""
        methods, parameters = self._at(path)
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            message = f"Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different HTTP method?)"
            allowed = {"allow": ", ".join(sorted(methods))}
            raise errors.ApiError(405, message, code="method_not_supported", headers=allowed)
        return handler, parameters

    def _at(self, path: str) -> tuple[dict[str, Handler], dict[str, str]]:
        if path in self._exact:
            return self._exact[path], {}
        steps = path.split("/")
        for template, methods in self._templates:
            if len(template) == len(steps):
                pairs = list(zip(template, steps, strict=True))
                if all(name == step or (name[:1] == "{" and step) for name, step in pairs):
                    return methods, {name[1:-1]: unquote(step) for name, step in pairs if name[:1] == "{"}
        message = f"Unknown request URL: {path}. Please check the URL for typos."
        raise errors.not_found(message, code="unknown_url")
