"""Which operation a method and a path stand for."""

from __future__ import annotations

import sys

import pytest

from host.component.operations import OperationSpec, read_operations
from host.core.names import Reference
from host.errors import NotFound
from host.service.catalog import Matched, Routes

ONE, OTHER = Reference.parse("c:local.one:1.0.0"), Reference.parse("c:local.other:1.0.0")


def spec(name: str, method: str, path: str) -> OperationSpec:
    return read_operations({name: {"method": method, "path": path}})[name]


ROUTES = Routes(
    [
        (
            ONE,
            [
                spec("files.list", "GET", "/files"),
                spec("files.create", "POST", "/files"),
                spec("files.get", "GET", "/files/{file_id}"),
                spec("files.search", "GET", "/files/search"),
                spec("files.content", "GET", "/files/{file_id}/content"),
                spec("parts.get", "GET", "/files/{file_id}/{part}"),
                spec("models.get", "GET", "/models/{model}"),
                spec("trees.get", "GET", "/trees/{+path}"),
                spec("trees.leaves", "GET", "/trees/{+path}/leaves"),
                spec("trees.roots", "GET", "/trees/{name}/roots"),
                spec("beta.files.list", "GET", "/files?beta=true"),
                spec("only.beta", "PUT", "/only/{id}?beta=true"),
                spec("models.delete", "DELETE", "/models/{model}"),
                OperationSpec("without.route"),
            ],
        ),
        (OTHER, [spec("documents.get", "GET", "/files/{id}"), spec("documents.delete", "DELETE", "/files/{id}")]),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "name", "values"),
    [
        pytest.param("GET", "/files", "files.list", (), id="a path"),
        pytest.param("POST", "/files", "files.create", (), id="by its method"),
        pytest.param("HEAD", "/files", "files.list", (), id="HEAD as GET"),
        pytest.param("GET", "/files/a", "files.get", ("a",), id="with a value in it"),
        pytest.param("GET", "/files/search", "files.search", (), id="a word before a value"),
        pytest.param("GET", "/files/a/content", "files.content", ("a",), id="a value before a word"),
        pytest.param("GET", "/files/a/b", "parts.get", ("a", "b"), id="two values"),
        pytest.param("GET", "/files/a%2Fb", "files.get", ("a/b",), id="an encoded slash is part of the value"),
        pytest.param(
            "GET", "/models/meta-llama/Llama-3", "models.get", ("meta-llama/Llama-3",), id="a model with a slash"
        ),
        pytest.param("GET", "/models/a%2Fb/c:d", "models.get", ("a/b/c:d",), id="a model with several, and a colon"),
        pytest.param(
            "DELETE", "/models/ft:gpt-4o:acme::x/y", "models.delete", ("ft:gpt-4o:acme::x/y",), id="by its method"
        ),
        pytest.param("GET", "/trees/oak", "trees.get", ("oak",), id="a rest of one step"),
        pytest.param("GET", "/trees/a/b%2Fc/d", "trees.get", ("a/b/c/d",), id="a rest of several"),
        pytest.param("GET", "/trees/a/b/leaves", "trees.leaves", ("a/b",), id="a rest before a word"),
        pytest.param("GET", "/trees/leaves", "trees.get", ("leaves",), id="a rest that is such a word"),
        pytest.param("GET", "/trees/a/roots", "trees.roots", ("a",), id="one step before a rest"),
        pytest.param("GET", "/trees/a/b/roots", "trees.get", ("a/b/roots",), id="a rest where one step is too few"),
        pytest.param("PUT", "/only/x", "only.beta", ("x",), id="a route with a query of its own, if there is no other"),
        pytest.param("GET", "/files/a..b", "files.get", ("a..b",), id="dots in a value"),
        pytest.param("GET", "/files/%E2%82%AC", "files.get", ("€",), id="a value in UTF-8"),
    ],
)
def test_a_path_is_an_operation(method: str, path: str, name: str, values: tuple[str, ...]) -> None:
    matched = ROUTES.find(method, path)
    assert isinstance(matched, Matched)
    assert matched.route.spec(ONE).name == name
    assert matched.values == values


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("PUT", "/files", ["GET", "POST"], id="another method tells which there are"),
        pytest.param("POST", "/files/search", ["DELETE", "GET"], id="also those of the templates that fit"),
        pytest.param("GET", "/", [], id="no path"),
        pytest.param("GET", "/files/", [], id="an empty value is none"),
        pytest.param("GET", "/files/a/b/c", [], id="one step too many"),
        pytest.param("GET", "/FILES", [], id="letters are as they are written"),
        pytest.param("GET", "without.route", [], id="what has no route"),
        pytest.param("GET", "/trees/", [], id="an empty rest is none"),
        pytest.param("GET", "/trees/../files", [], id="a rest does not climb"),
        pytest.param("GET", "/trees/a/%2e%2e/b", [], id="nor with dots that are encoded"),
        pytest.param("GET", "/trees/a%2f..%2fb", [], id="nor with slashes that are"),
        pytest.param("GET", "/trees/a//b", [], id="a rest has no empty step"),
        pytest.param("GET", "/trees" + "/a" * 127, [], id="a path of more steps than any operation has"),
        pytest.param("GET", "/trees" + "/a" * 100_000, [], id="a path without end"),
    ],
)
def test_what_is_none_says_what_there_is(method: str, path: str, allowed: list[str]) -> None:
    assert ROUTES.find(method, path) == allowed


def test_each_catalyst_has_its_own_names_for_what_stands_in_the_path() -> None:
    matched = ROUTES.find("GET", "/files/a")
    assert isinstance(matched, Matched)
    assert matched.in_path(matched.route.spec(ONE)) == {"file_id": "a"}
    assert matched.in_path(matched.route.spec(OTHER)) == {"id": "a"}


def test_a_catalyst_without_the_route_is_told_who_has_it() -> None:
    matched = ROUTES.find("DELETE", "/files/a")
    assert isinstance(matched, Matched)
    with pytest.raises(NotFound, match=r"c:local\.one:1\.0\.0 has no DELETE .* c:local\.other"):
        matched.route.spec(ONE)


def test_a_path_is_found_in_as_many_looks_however_many_routes_there_are() -> None:
    def looks(count: int) -> int:
        many = [spec(f"o{n}.get", "GET", f"/o{n}/{{a}}/x/{{b}}") for n in range(count)]
        routes, found = Routes([(ONE, many)]), []
        sys.setprofile(lambda frame, event, _: found.append(frame) if event == "call" else None)
        try:
            matched = routes.find("GET", f"/o{count - 1}/1/x/2")
        finally:
            sys.setprofile(None)
        assert isinstance(matched, Matched)
        return len(found)

    assert looks(1_000) == looks(10)


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        pytest.param("PUT", "/models/a/b", ["DELETE", "GET"], id="a method that a model has not"),
        pytest.param("GET", "/models/a/../b", [], id="a step up"),
        pytest.param("GET", "/models/a/%2e%2e/b", [], id="a step up, encoded"),
        pytest.param("GET", "/models/a//b", [], id="an empty step"),
        pytest.param("GET", "/models/a/", [], id="a slash at the end"),
        pytest.param("GET", "/other/a/b", [], id="another path"),
        pytest.param("GET", "/files/..", [], id="a file is not the step up"),
        pytest.param("GET", "/files/./content", [], id="nor this one"),
        pytest.param("GET", "/files/%2e%2E/content", [], id="nor a step up that is encoded"),
        pytest.param("GET", "/files/a%2F../content", [], id="nor has it one behind a slash that is"),
        pytest.param("GET", "/files/a%2f%2e%2e%2fb", [], id="nor one between two"),
        pytest.param("GET", "/files/..%2f", [], id="nor one before it"),
        pytest.param("GET", "/files/%2Fa", [], id="nor an empty step"),
        pytest.param("PUT", "/files/a/b", ["GET"], id="a file has no slashes in its name"),
    ],
)
def test_a_name_with_slashes_is_no_way_to_another_path(method: str, path: str, methods: list[str]) -> None:
    assert ROUTES.find(method, path) == methods
