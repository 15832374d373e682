"""Webhook endpoints (platform.openai.com/docs/api-reference/webhooks). Nothing is delivered: a test of one succeeds."""

from __future__ import annotations

import base64

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.specification import operations
from host.fakes.openai.text import seed_of

_ENDPOINTS = "/v1/webhook_endpoints"
_ENDPOINT = f"{_ENDPOINTS}/{{webhook_endpoint_id}}"


def create_endpoint(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    known = event_types()
    for name in params.texts("event_types", at_most=len(known)):
        if name not in known:
            raise errors.unsupported("event_types", name, known)
    if not params.required_text("url").startswith("https://"):
        raise errors.wrong_value("url", "it has to begin with https://.")
    return rest.answer(call, rest.make(call, _ENDPOINTS, params.all(), **_secret(call)).fields)


def _secret(call: ApiCall) -> dict[str, str]:
    """A signing secret (standardwebhooks.com), which is shown this once, and its hint."""
    secret = base64.b64encode(seed_of("webhook", call.store.next_number())).decode()
    return {"signing_secret": f"whsec_{secret}", "signing_secret_hint": f"whsec_{secret[:4]}"}


def rotate_secret(call: ApiCall) -> FakeResponse:
    endpoint = rest.found(call, _ENDPOINT)
    rest.body(call)
    endpoint.become(**_secret(call), updated_at=call.store.now)
    return rest.answer(call, endpoint.fields)


def send_test(call: ApiCall) -> FakeResponse:
    endpoint = rest.found(call, _ENDPOINT)
    name = rest.body(call).required_text("event_type")
    return rest.answer(call, {"event_type": name, "status_code": 200, "webhook_endpoint_id": endpoint.id})


def event_types() -> tuple[str, ...]:
    return tuple(operations()["POST", f"{_ENDPOINT}/test"].choices["event_type"])


def list_event_types(call: ApiCall) -> FakeResponse:
    return rest.answer(call, {"object": "list", "data": list(event_types())})


ENDPOINTS: EndpointTable = {
    _ENDPOINTS: {"POST": create_endpoint},
    f"{_ENDPOINT}/rotate_secret": {"POST": rotate_secret},
    f"{_ENDPOINT}/test": {"POST": send_test},
    "/v1/webhook_event_types": {"GET": list_event_types},
}
