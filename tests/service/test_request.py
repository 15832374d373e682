"""What a request comes to, against a catalog: who may, which catalyst and operation, which models. Without HTTP."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest

from host.component.manifest import Manifest
from host.component.operations import OperationSpec, read_operations
from host.core.names import Digest, Reference
from host.errors import Forbidden, InputError, NotFound
from host.service.local import resolve_local
from host.service.principal import OPERATOR, Principal
from host.service.request import OperationRequest, Resolved, Routing, resolve
from host.store.access.api_keys import ApiKey
from host.store.components import Component

OPERATIONS = {
    "chat": {"method": "POST", "path": "/chat", "request": "json", "stream": True, "aliases": ["talk"],
             "params": {"properties": {"model": {}, "stream": {}}}},
    "models.get": {"method": "GET", "path": "/models/{model}"},
    "files.list": {"method": "GET", "path": "/files"},
    "form": {"method": "POST", "path": "/form", "request": "multipart", "params": {"properties": {"file": {}}}},
}  # fmt: skip


def component(name: str, **manifest: Any) -> Component:
    document = {"id": f"local.{name}", "version": "1.0.0", **manifest}
    reference = Reference.parse(f"c:local.{name}:1.0.0")
    return Component(reference, Digest.of(b""), 0, Manifest.parse(json.dumps(document)), (), "file", 0.0, approved=True)


ONE = component("one", operations=OPERATIONS)
OTHER = component("other", operations={"chat": {**OPERATIONS["chat"], "aliases": []}})
OWN = component("own", schema={"input": {"properties": {"operation": {}, "text": {}}}})
WHOLE = component("whole", schema={"input": {"properties": {"text": {}}}})


ROUTING = Routing({"claude": OTHER.reference.any_version}, {"fast": "gpt-4o-mini"}, ONE.reference.any_version)


@dataclass(frozen=True)
class Installed:
    """A catalog of these."""

    routing: Routing = ROUTING

    def component(self, reference: Reference) -> Component:
        for one in (ONE, OTHER, OWN, WHOLE):
            if reference.any_version == one.reference.any_version:
                return one
        raise NotFound(f"there is no {reference}")


def holder(**more: Any) -> Principal:
    given: dict[str, Any] = {
        "id": "ab12cd34ef56", "name": "ci", "type": "secret", "scopes": frozenset({"run"}), "rate_limit": None,
        "request_budget": None, "token_budget": None, "ip_allowlist": (), "models": (), "catalysts": (),
        "created_at": 0.0, "expires_at": None, "revoked_at": None, "rotated_at": None,
    }  # fmt: skip
    return Principal.of(ApiKey(**{**given, **more}))


def resolved(principal: Principal = OPERATOR, **asked: Any) -> Resolved:
    return resolve(OperationRequest(principal, **asked), Installed())


class TestTheCatalyst:
    @pytest.mark.parametrize(
        ("target", "found"),
        [
            pytest.param(OTHER.reference, OTHER, id="by its reference"),
            pytest.param(OTHER.reference.any_version, OTHER, id="by a reference without a version"),
            pytest.param("claude-4", OTHER, id="by a model's prefix"),
            pytest.param("gpt-5", ONE, id="by default, for a model without a prefix"),
            pytest.param("fast", ONE, id="by an alias"),
            pytest.param(None, ONE, id="by default, for no model"),
        ],
    )
    def test_is_found(self, target: Any, found: Component) -> None:
        assert resolved(target=target, operation="chat").component is found

    def test_is_not_found_where_it_is_not_installed(self) -> None:
        with pytest.raises(NotFound, match=r"local\.none"):
            resolved(target=Reference.parse("c:local.none"), operation="chat")

    def test_is_for_the_keys_that_name_it(self) -> None:
        with pytest.raises(Forbidden, match="not for the catalyst"):
            resolved(holder(catalysts=(OTHER.reference,)), operation="chat")

    def test_takes_the_scope_before_anything_else(self) -> None:
        with pytest.raises(Forbidden, match="scope 'run'"):
            resolved(holder(scopes=frozenset({"runs"})), target=Reference.parse("c:local.none"))


class ByRoute:
    """`GET /models/{model}`, which the catalysts may call what they want."""

    def spec(self, reference: Reference) -> OperationSpec:
        name = f"get.of.{reference.name}"
        return read_operations({name: {"method": "GET", "path": "/models/{named}"}})[name]

    def in_path(self, spec: OperationSpec) -> dict[str, Any]:
        return {spec.in_path[0]: "m"}


class TestTheOperation:
    def test_has_its_name_or_an_alias(self) -> None:
        for name in ("chat", "talk"):
            found = resolved(operation=name)
            assert found.spec is not None
            assert (found.spec.name, found.operation) == ("chat", name)

    def test_may_be_one_that_the_manifest_does_not_list(self) -> None:
        found = resolved(operation="other", params={"a": 1})
        assert (found.spec, found.input()) == (None, {"operation": "other", "params": {"a": 1}, "stream": False})

    def test_has_another_name_at_each_catalyst_where_it_is_a_route(self) -> None:
        found = resolved(operation=ByRoute(), params={"a": 1})
        assert found.input() == {"operation": "get.of.one", "params": {"a": 1, "named": "m"}, "stream": False}

    def test_is_read_from_a_whole_input(self) -> None:
        given = {"operation": "chat", "params": {"model": "m", "stream": True}, "more": 1}
        assert resolved(more=given).input() == {
            "operation": "chat", "params": {"model": "m"}, "stream": True, "more": 1,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("target", "given"),
        [
            pytest.param(WHOLE, {"text": "a"}, id="which names no operation"),
            pytest.param(
                OWN, {"operation": "its own", "text": "a"}, id="whose schema has an operation of its own kind"
            ),
        ],
    )
    def test_is_none_in_an_input(self, target: Component, given: Any) -> None:
        found = resolved(target=target.reference, more=given)
        assert (found.operation, found.input()) == ("", given)

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            pytest.param({"operation": 3}, "input.operation", id="the operation is a name"),
            pytest.param({"operation": "chat", "params": 3}, "input.params", id="the parameters are an object"),
            pytest.param(
                {"operation": "chat", "params": {}, "stream": 3}, "input.stream", id="stream is true or false"
            ),
        ],
    )
    def test_has_the_envelope_s_form(self, given: Any, field: str) -> None:
        with pytest.raises(InputError) as raised:
            resolved(more=given)
        assert raised.value.field == field


class TestModels:
    def test_have_their_own_names_in_place_of_aliases(self) -> None:
        assert resolved(operation="chat", params={"model": "fast"}).params == {"model": "gpt-4o-mini"}
        assert resolved(target=WHOLE.reference, operation="", more={"model": "fast"}).more == {"model": "gpt-4o-mini"}

    @pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5", "fast"])
    def test_are_those_of_the_key_by_either_name(self, model: str) -> None:
        resolved(holder(models=("gpt-*",)), operation="chat", params={"model": model})

    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param({"operation": "chat", "params": {"model": "claude"}}, id="another model"),
            pytest.param({"operation": "chat", "params": {}}, id="no model, where there could be one"),
            pytest.param({"operation": "other"}, id="an operation that does not say what it takes"),
            pytest.param({"operation": "models.get", "params": {"model": "claude"}}, id="another one in the path"),
        ],
    )
    def test_are_no_others(self, asked: Any) -> None:
        with pytest.raises(Forbidden, match="model"):
            resolved(holder(models=("gpt-*",)), **asked)

    def test_do_not_matter_to_an_operation_without_any(self) -> None:
        resolved(holder(models=("gpt-*",)), operation="files.list")

    def test_are_strings(self) -> None:
        with pytest.raises(InputError) as raised:
            resolved(holder(models=("gpt-*",)), operation="chat", params={"model": 3})
        assert raised.value.field == "params.model"


def test_files_in_base64_become_attachments_of_a_form() -> None:
    file = {"data": base64.b64encode(b"abc").decode(), "filename": "a.wav"}
    found = resolved(operation="form", params={"file": file, "other": 1}, inline_files=True)
    assert found.params == {"file": {"$attachment": "file0"}, "other": 1}
    assert found.attachments["file0"].data == b"abc"
    assert resolved(operation="form", params={"file": file}).params == {"file": file}, "only where it is asked for"


def test_the_audit_log_has_the_key_and_the_face() -> None:
    request = OperationRequest(holder(), operation="chat", params={}, via="mcp", request_id="req_1")
    known = {"key": "ab12cd34ef56", "name": "ci", "via": "mcp", "operation": "chat", "request": "req_1"}
    assert resolve(request, Installed()).caller() == known


def test_an_operator_s_own_input_goes_through_as_it_is() -> None:
    given = {"operation": "chat", "params": {"model": 3}, "stream": "maybe"}
    found = resolve_local(OperationRequest(OPERATOR, operation="", more=given), ONE)
    assert (found.input(), found.caller()) == (given, {"operation": "chat"})
