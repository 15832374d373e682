"""OpenAI's errors: `{"error": {"message", "type", "param", "code"}}`
(platform.openai.com/docs/guides/error-codes), with OpenAI's messages."""

from __future__ import annotations

from typing import Any

from host.fakes.messages import FakeResponse

_KEY_PAGE = "https://platform.openai.com/account/api-keys"


class ApiError(Exception):
    """An answer with an error status. Handlers raise it. It never leaves the fake, so it is no HostError."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers

    @property
    def kind(self) -> str:
        """The body's `type`."""
        if self.status >= 500:
            return "server_error"
        return "requests" if self.status == 429 else "invalid_request_error"

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> FakeResponse:
        return FakeResponse.json(self.body(), self.status, self.headers)


def standard(status: int) -> ApiError:
    """OpenAI's usual error for `status`."""
    match status:
        case 401:
            return ApiError(
                401, f"Incorrect API key provided. You can find your API key at {_KEY_PAGE}.", code="invalid_api_key"
            )
        case 429:
            return ApiError(429, "Rate limit reached for requests. Please try again later.", code="rate_limit_exceeded")
        case 503:
            return ApiError(503, "The server is overloaded. Please try again later.")
        case _ if status >= 500:
            return ApiError(status, "The server had an error while processing your request. Sorry about that!")
        case _:
            return ApiError(status, f"The request failed with status {status}.")


def missing_key() -> ApiError:
    message = (
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the "
        "API from your browser and are prompted for a username and password. You can obtain an API key from "
        f"{_KEY_PAGE}."
    )
    return ApiError(401, message, headers={"www-authenticate": "Bearer"})


def wrong_key(*, admin: bool) -> ApiError:
    """For an operation that takes an admin key, or one that takes none."""
    scope, kind = (
        ("api.management", "an admin key") if admin else ("api.model.request", "a project's key, and no admin key")
    )
    message = f"You have insufficient permissions for this operation. Missing scopes: {scope}. It takes {kind}."
    return ApiError(403, message, code="missing_scope")


def missing(param: str) -> ApiError:
    return ApiError(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def wrong_type(param: str, expected: str, value: Any) -> ApiError:
    message = f"Invalid type for '{param}': expected {expected}, but got {_type_name(value)} instead."
    return ApiError(400, message, param=param, code="invalid_type")


def wrong_value(param: str, message: str) -> ApiError:
    return ApiError(400, f"Invalid '{param}': {message}", param=param, code="invalid_value")


def unsupported(param: str, value: str, supported: tuple[str, ...]) -> ApiError:
    listed = ", ".join(f"'{name}'" for name in supported)
    message = f"Invalid value: '{value}'. Supported values are: {listed}."
    return ApiError(400, message, param=param, code="invalid_value")


def outside(param: str, value: float, bound: float, *, above: bool, kind: str) -> ApiError:
    """`kind` is "integer" or "decimal"."""
    side, sign = ("above maximum", "<=") if above else ("below minimum", ">=")
    message = f"Invalid '{param}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} instead."
    return ApiError(400, message, param=param, code=f"{kind}_{side.replace(' ', '_')}_value")


def not_found(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(404, message, param=param, code=code)


def _type_name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
