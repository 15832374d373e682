"""The bodies of requests to the console's API: JSON of these forms."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from host.core.names import Reference
from host.core.operation import Attachment
from host.core.quantities import Quota
from host.core.strict_json import Json, parse_object
from host.errors import HostError, InputError
from host.server.asgi import JSON, LARGE_BYTES, read_body, read_json
from host.service.principal import Admitted
from host.store.access.api_keys import ApiKey, ApiKeys, network

SMALL = 64 * 1024
_MOST_VALUES = 5_000  # in a small body
_WHAT = "the request's body"

Body = TypeVar("Body", bound="_Strict")
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SignIn(_Strict):
    key: str = Field(repr=False)


class Nothing(_Strict):
    pass


class Rotate(_Strict):
    overlap_s: Seconds = 0.0


class NewKey(_Strict):
    """Empty texts and lists stand for no limit; of a public key's `operations`, for those that are public, or read."""

    name: str
    type: str
    scopes: list[str] | None = None
    rate_limit: str = ""
    request_budget: str = ""
    token_budget: str = ""
    ip_allowlist: list[str] = []
    models: list[str] = []
    catalysts: list[str] = []
    operations: list[str] = []
    expires_in_s: Seconds | None = None

    def create(self, keys: ApiKeys) -> tuple[ApiKey, str]:
        """Raises InputError, which names the field."""
        return keys.create(
            name=self.name,
            type=self.type,  # type: ignore[arg-type]  # it is checked there
            scopes=self.scopes,  # type: ignore[arg-type]  # as above
            rate_limit=_quota("rate_limit", self.rate_limit),
            request_budget=_quota("request_budget", self.request_budget),
            token_budget=_quota("token_budget", self.token_budget),
            ip_allowlist=[network(one) for one in self.ip_allowlist],
            models=self.models,
            catalysts=[_reference(one) for one in self.catalysts],
            operations=self.operations,
            expires_at=None if self.expires_in_s is None else time.time() + self.expires_in_s,
        )


class File(_Strict):
    """`data` in base64."""

    data: str = Field(repr=False)
    filename: str = Field("", max_length=300)
    content_type: str = Field("", max_length=200)


class Play(_Strict):
    """One operation of one catalyst. `params` mention each of `files` as `{"$attachment": name}`. For a catalyst that
    takes no operations `operation` is empty, and `params` are its whole input."""

    reference: str
    operation: str = Field(max_length=200)
    params: dict[str, Json] = {}
    stream: bool = False
    files: dict[str, File] = {}

    def attachments(self) -> Mapping[str, Attachment]:
        """Raises InputError."""
        return {name: _attachment(name, one) for name, one in self.files.items()}


async def read(request: Request, form: type[Body]) -> Body:
    """A small body. Raises InputError, which names the field; TooLarge."""
    return _checked(form, parse_object(await _body(request, SMALL) or b"{}", _WHAT, most=_MOST_VALUES))


async def read_play(request: Request, most: int, admitted: Admitted) -> tuple[Play, Mapping[str, Attachment]]:
    """A body of `most` bytes, and its files. Raises InputError, which names the field; TooLarge; LimitExceeded,
    Busy."""
    text = await _body(request, most, admitted)
    given = await read_json(text or b"{}", _WHAT, admitted)

    def checked() -> tuple[Play, Mapping[str, Attachment]]:
        play = _checked(Play, given)
        return play, play.attachments()

    return await admitted.off_loop(checked) if len(text) > LARGE_BYTES else checked()


async def _body(request: Request, most: int, admitted: Admitted | None = None) -> bytes:
    """The content type has to be JSON: a form of any other page can send other types."""
    if (request.headers.get("content-type") or "").partition(";")[0].strip().lower() != JSON:
        raise InputError("the request's body is not JSON", hint=f"content-type: {JSON}")
    return await read_body(request.scope, request.receive, most, admitted)


def _checked(form: type[Body], given: dict[str, Json]) -> Body:
    try:
        return form.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = ".".join(str(one) for one in first["loc"])[:200]
        raise InputError(f"{name}: {first['msg']}", field=name) from None


def _quota(name: str, text: str) -> Quota | None:
    try:
        return Quota.parse(text.strip()) if text.strip() else None
    except InputError as error:
        raise InputError(error.message, field=name, hint=error.hint) from None


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except HostError as error:
        raise InputError(error.message, field="catalysts", hint=error.hint) from None


def _attachment(name: str, given: File) -> Attachment:
    try:
        data = base64.b64decode(given.data, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the file is not base64", field=f"files.{name[:80]}.data") from None
    return Attachment(data, given.filename, given.content_type)
