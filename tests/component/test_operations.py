"""What a manifest says of its operations: each field as it has to be, or a ManifestError that names it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.component.manifest import Manifest
from host.component.operations import MAX_OPERATIONS, OperationSpec, read_operations, routed
from host.errors import ManifestError

CHAT = {
    "description": "Answers",
    "method": "POST",
    "path": "/chat/completions",
    "request": "json",
    "response": "json",
    "stream": True,
    "params": {"type": "object", "required": ["model"]},
    "aliases": ["chat", "chat.create"],
}


def read(**fields: Any) -> OperationSpec:
    return read_operations({"x": fields})["x"]


def test_an_operation_with_every_field() -> None:
    assert read_operations({"chat.completions.create": CHAT}) == {
        "chat.completions.create": OperationSpec(
            name="chat.completions.create",
            description="Answers",
            method="POST",
            path="/chat/completions",
            request="json",
            response="json",
            stream=True,
            schema={"type": "object", "required": ["model"]},
            aliases=("chat", "chat.create"),
        )
    }


def test_an_operation_of_which_nothing_is_said_has_no_route_takes_anything_and_does_not_stream() -> None:
    assert read() == OperationSpec(name="x")
    assert (read().method, read().path, read().params, read().stream) == ("", "", True, False)


def test_no_operations_are_none_and_the_order_is_the_manifests() -> None:
    assert Manifest.parse("{}").operations == {}
    assert list(Manifest.parse('{"operations": {"b": {}, "a": {}}}').operations) == ["b", "a"]


def test_an_operation_that_is_apart_says_so_or_has_a_secret_of_its_own() -> None:
    assert read(apart=True).is_apart
    assert read(secret="ADMIN_KEY").is_apart
    assert not read(apart=False).is_apart


def test_where_one_operation_is_marked_as_public_the_others_are_not() -> None:
    assert [one.public for one in read_operations({"a": {}, "b": {"public": True}}).values()] == [False, True]
    assert [one.public for one in read_operations({"a": {}, "b": {}}).values()] == [None, None]


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert read(tags=["a"], **CHAT) == read(**CHAT)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        pytest.param("/models", (), id="none"),
        pytest.param("/models/{model}", ("model",), id="at the end"),
        pytest.param("/files/{file_id}/content", ("file_id",), id="in the middle"),
        pytest.param("/v1.1/a_b/{_a}/{b2}", ("_a", "b2"), id="several"),
        pytest.param("/a/b:cancel", (), id="a literal with a colon"),
        pytest.param("/a/{+b}/c/{d}", ("b", "d"), id="one whose value may have slashes"),
        pytest.param("/a/{b}?beta=true&c=", ("b",), id="before a query that is always sent"),
        pytest.param("/.well-known/..a/...", (), id="dots that are no dot segments"),
    ],
)
def test_the_parameters_in_a_path(path: str, names: tuple[str, ...]) -> None:
    assert read(method="GET", path=path).in_path == names


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_every_method_that_a_route_may_have(method: str) -> None:
    assert read(method=method, path="/x").method == method


@pytest.mark.parametrize("request_", ["none", "json", "multipart", "raw"])
@pytest.mark.parametrize("response", ["json", "binary", "text", "empty"])
def test_every_form_of_request_and_response(request_: str, response: str) -> None:
    one = read(request=request_, response=response)
    assert (one.request, one.response) == (request_, response)


@pytest.mark.parametrize("params", [True, False, {}, {"$ref": "#/$defs/a", "$defs": {"a": {}}}], ids=repr)
def test_params_are_any_schema(params: Any) -> None:
    assert read(params=params).params == params


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        *(
            pytest.param({name: value}, f"operations.x.{name}", id=f"{name} {value!r}")
            for name, values in {
                "description": (5, None, ["a"]),
                "method": ("get", "HEAD", 5, None, ["GET"], {"GET": 1}),
                "path": (5, None, ["/x"]),
                "request": ("form", "", None, True, {}),
                "response": ("stream", "", None, 5, []),
                "stream": ("true", 1, None, []),
                "query": ("a", None, [5]),
                "headers": (5, [], {"a": 5}, {"a": {}}, {"a": {"param": 5}}),
                "parts": (5, ["a"], {"a": 5}),
                "without_files": ("form", 5),
                "secret": (5, "", "a b", None),
                "websocket": ("true", None),
                "apart": ("true", None, 1),
                "public": ("true", None, 1),
                "parameters": (5, "a", [5]),
                "params": ("object", None, 5, []),
                "aliases": ("a", None, {"a": 1}, [5], [""], ["a b"], ["a..b"], ["a", "a"], ["x"], ["a\n"], ["é"]),
            }.items()
            for value in values
        ),
        pytest.param({"method": "GET"}, "operations.x.path", id="a method without a path"),
        pytest.param({"path": "/x"}, "operations.x.method", id="a path without a method"),
        *(
            pytest.param({"method": "GET", "path": path}, "operations.x.path", id=f"the path {path[:20]!r}")
            for path in (
                *(
                    "x",
                    "/",
                    "x/",
                    "/x/",
                    "//x",
                    "/x//y",
                    "/x y",
                    "/x?y",
                    "/x?",
                    "/x?y=1#z",
                    "/x?y=1?",
                    "/x#y",
                    "/é",
                    "/x\n",
                    "/%2e%2e/x",
                    "\\x",
                ),
                *(
                    "/{}",
                    "/{a b}",
                    "/{1}",
                    "/{a",
                    "/a}",
                    "/x{a}",
                    "/{a}x",
                    "/{a}{b}",
                    "/{++a}",
                    "/{a+}",
                    "/{a!r}",
                    "/{a.b}",
                    "/{a:path}",
                ),
                *("/.", "/..", "/../x", "/x/..", "/x/./y", "/{a}/{a}", "/" + "x" * 200, "https://x.test/x"),
            )
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ManifestError) as error:
        read(**fields)
    assert (
        str(error.value)
        .replace(":", " ")
        .replace(".", " ")
        .replace("[", " ")
        .startswith(f"the manifest  {named} ".replace(".", " "))
    )


@pytest.mark.parametrize("name", ["", " ", "a b", ".", "a.", ".a", "a..b", "a/b", "a\n", "é", "\ud800", "a" * 201, "*"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ManifestError, match="no name of an operation") as error:
        read_operations({name: {}})
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("given_", [None, [], "x", 5, True], ids=repr)
def test_operations_and_each_of_them_are_objects(given_: Any) -> None:
    with pytest.raises(ManifestError, match="operations is a JSON"):
        read_operations(given_)
    with pytest.raises(ManifestError, match="operations is a JSON"):
        Manifest.parse(json.dumps({"operations": given_}))
    with pytest.raises(ManifestError, match=r"operations\.x is a JSON"):
        read_operations({"x": given_})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param({"aliases": ["a"]}, "operations.b.aliases: a is taken", id="an alias that is a name"),
        pytest.param({"aliases": ["c"]}, "operations.b.aliases: c is taken", id="an alias that is a later name"),
        pytest.param({"aliases": ["a1"]}, "operations.b.aliases: a1 is taken", id="an alias that is an alias"),
        pytest.param(
            {"method": "GET", "path": "/x/{id}"},
            "operations.b.path: GET /x/{id} is operations.a already",
            id="the same route",
        ),
        pytest.param(
            {"method": "GET", "path": "/x/{name}"},
            "operations.b.path: GET /x/{name} is operations.a already",
            id="a route that differs in a name",
        ),
    ],
)
def test_no_two_share_a_name_or_a_route(other: dict[str, Any], said: str) -> None:
    first = {"method": "GET", "path": "/x/{id}", "aliases": ["a1"]}
    with pytest.raises(ManifestError) as error:
        read_operations({"a": first, "b": other, "c": {}})
    assert said in str(error.value)


def test_routes_that_differ_in_method_or_literal_are_two_and_many_may_have_none() -> None:
    routes = [("GET", "/x/{id}"), ("DELETE", "/x/{id}"), ("GET", "/x/all"), ("GET", "/x"), ("", ""), ("", "")]
    given_: dict[str, Any] = {f"o{n}": {"method": m, "path": p} for n, (m, p) in enumerate(routes)}
    assert len(read_operations(given_)) == len(routes)


def test_there_may_be_many_and_not_too_many() -> None:
    many: dict[str, Any] = {f"o{n}": {"method": "GET", "path": f"/x/{n}"} for n in range(MAX_OPERATIONS)}
    assert len(read_operations(many)) == MAX_OPERATIONS
    with pytest.raises(ManifestError, match="more than"):
        read_operations({**many, "more": {}})


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"path": "/" + "a/" * 400_000, "method": "GET"}, id="a long path"),
        pytest.param({"path": "/{" * 100_000, "method": "GET"}, id="a path that opens only"),
        pytest.param({"aliases": ["a." * 100_000]}, id="a long alias"),
        pytest.param({"aliases": [[[["a"]]]] * 1000}, id="aliases in lists"),
        pytest.param({"request": "x" * 500_000}, id="a long word"),
        pytest.param({"method": {"a": [{}] * 1000}}, id="an object for a word"),
    ],
)
def test_what_is_large_or_odd_is_an_error_of_a_few_words(fields: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as error:
        Manifest.parse(json.dumps({"operations": {"x": fields}}))
    assert len(str(error.value)) < 300


def test_a_manifest_that_is_nested_too_deeply_is_an_error() -> None:
    schema = '{"not":' * 300 + "{}" + "}" * 300
    with pytest.raises(ManifestError):
        Manifest.parse(f'{{"operations": {{"x": {{"params": {schema}}}}}}}')


def test_what_a_row_says_of_its_request() -> None:
    one = read(
        request="raw",
        response="empty",
        stream="always",
        query=["include"],
        headers={"Accept": "application/sdp", "OpenAI-Beta": {"param": "betas"}},
        parts={"sdp": "application/sdp"},
        without_files="json",
        secret="OPENAI_ADMIN_KEY",
        websocket=True,
    )
    assert (one.query, one.in_headers, one.parts) == (("include",), ("betas",), {"sdp": "application/sdp"})
    assert (one.stream, one.always_streams, one.without_files) == (True, True, "json")
    assert (one.secret, one.websocket) == ("OPENAI_ADMIN_KEY", True)


def test_of_one_route_requests_run_the_operation_without_a_query_of_its_own() -> None:
    found = read_operations(
        {
            "beta.create": {"method": "POST", "path": "/x?beta=true"},
            "create": {"method": "POST", "path": "/x"},
            "other": {"method": "POST", "path": "/x?other=true"},
            "beta.list": {"method": "GET", "path": "/y/{a}?beta=true"},
            "connect": {"method": "GET", "path": "/x", "websocket": True},
            "nowhere": {},
        }
    )
    assert [(one.name, one.route) for one in routed(found.values())] == [("create", "/x"), ("beta.list", "/y/{a}")]
    assert found["connect"].route == ""


NAMES = st.sampled_from(["a", "a.b", "c", "", "a b"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["GET", "/a", "/{a}", "json"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "description": ANYTHING | st.just("words"),
        "method": ANYTHING | st.sampled_from(["GET", "POST"]),
        "path": ANYTHING | st.sampled_from(["/a", "/{a}", "/{b}", "/a/{b}/{c}"]),
        "request": ANYTHING | st.sampled_from(["none", "json", "multipart"]),
        "response": ANYTHING | st.sampled_from(["json", "binary", "text"]),
        "stream": ANYTHING | st.booleans(),
        "params": ANYTHING,
        "aliases": ANYTHING | st.lists(NAMES, max_size=2),
    },
)


@given(st.dictionaries(NAMES, FIELDS | ANYTHING, max_size=4) | ANYTHING)
def test_any_value_is_operations_or_a_manifest_error(given_: Any) -> None:
    try:
        found = read_operations(given_)
    except ManifestError:
        return
    assert list(found) == list(given_)
    names = [name for one in found.values() for name in (one.name, *one.aliases)]
    assert len(names) == len(set(names))
    for one in found.values():
        assert bool(one.method) == bool(one.path)
        assert all(re.search(rf"/\{{\+?{name}\}}", one.path) for name in one.in_path)
