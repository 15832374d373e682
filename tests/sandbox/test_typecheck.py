"""A component whose imports or exports differ from the contract, by interface, version or type, never runs."""

from __future__ import annotations

import pytest
from wasmtime import wat2wasm

from host import Host, errors
from tests.conftest import wat
from tests.sandbox.conftest import component_text


def _importing(interface: str, function: str, kind: str) -> bytes:
    declared = f'(import "{interface}" (instance (export "{function}" {kind})))'
    return bytes(wat2wasm(component_text().replace("(component", f"(component {declared}", 1)))


@pytest.mark.parametrize(
    ("interface", "function", "kind"),
    [
        pytest.param("cyfr:http/fetch@0.1.0", "request", '(func (param "a" string))', id="no result"),
        pytest.param("cyfr:http/fetch@0.1.0", "request", "(func (result string))", id="no parameter"),
        pytest.param(
            "cyfr:http/fetch@0.1.0",
            "request",
            '(func (param "a" string) (param "b" string) (result string))',
            id="one too many",
        ),
        pytest.param(
            "cyfr:http/fetch@0.1.0", "request", '(func (param "a" (list u8)) (result string))', id="bytes for text"
        ),
        pytest.param(
            "cyfr:http/fetch@0.1.0", "fetch", '(func (param "a" string) (result string))', id="an unknown function"
        ),
        pytest.param(
            "cyfr:http/fetch@0.2.0", "request", '(func (param "a" string) (result string))', id="another version"
        ),
        pytest.param("cyfr:http/fetch", "request", '(func (param "a" string) (result string))', id="no version"),
        pytest.param(
            "catalyst:host/output@0.1.0", "emit", '(func (param "a" string) (result string))', id="text for a bool"
        ),
        pytest.param(
            "cyfr:secrets/read@0.1.0", "get", '(func (param "a" string) (result (result string)))', id="half a result"
        ),
        pytest.param("wasi:http/types@0.2.6", "x", "(func)", id="WASI's own HTTP"),
        pytest.param("wasi:sockets/tcp@0.2.6", "x", "(func)", id="sockets"),
        pytest.param("wasi:filesystem/types@0.3.0", "x", "(func)", id="files of another version"),
        pytest.param("wasi:filesystem/types-more@0.2.6", "x", "(func)", id="another part of files"),
        pytest.param("wasi:io/poll@0.2.6", "x", "(func)", id="what waits"),
        pytest.param("wasi:cli/environment@0.3.0", "x", "(func)", id="a WASI of another version"),
        pytest.param("wasi:keyvalue/store@0.2.6", "x", "(func)", id="another part of WASI"),
    ],
)
def test_it_is_refused_when_it_is_loaded(host: Host, interface: str, function: str, kind: str) -> None:
    with pytest.raises(errors.ContractError) as caught:
        host.load(_importing(interface, function, kind))
    assert caught.value.subject.startswith(interface)


def test_the_names_of_parameters_do_not_matter(host: Host) -> None:
    wasm = _importing("cyfr:http/fetch@0.1.0", "request", '(func (param "whatever" string) (result string))')
    assert host.load(wasm).run({}).ok


def test_a_part_of_an_interface_may_be_imported(host: Host) -> None:
    wasm = _importing("cyfr:http/streaming@0.1.0", "close", '(func (param "handle" string) (result string))')
    assert host.load(wasm).run({}).ok


def test_further_exports_are_nobodys_business(host: Host) -> None:
    text = component_text().replace(
        '(export "cyfr:catalyst/run@0.1.0"', '(export "other" (instance $out))\n (export "cyfr:catalyst/run@0.1.0"'
    )
    assert host.load(bytes(wat2wasm(text))).run({}).ok


def test_a_wasi_function_of_another_type_is_refused_as_such_and_not_as_a_lack_of_memory(host: Host) -> None:
    catalyst = host.load(_importing("wasi:cli/environment@0.2.6", "get-environment", "(func (result string))"))
    with pytest.raises(errors.ContractError):
        catalyst.run({})


def _two_more(first: str, second: str) -> bytes:
    declared = "".join(f'(import "{name}" (instance (export "x" (func))))' for name in (first, second))
    return bytes(wat2wasm(component_text().replace("(component", f"(component {declared}", 1)))


def test_every_import_that_the_host_does_not_provide_is_named_at_once(host: Host) -> None:
    with pytest.raises(errors.ContractError) as caught:
        host.load(_two_more("wasi:sockets/tcp@0.2.6", "cyfr:mcp/tools@0.1.0"))
    assert "imports wasi:sockets/tcp@0.2.6, cyfr:mcp/tools@0.1.0, which this host does not provide" in str(caught.value)
    assert caught.value.subject == "wasi:sockets/tcp@0.2.6"
    assert "--allow-import" not in str(caught.value), "no option lets the other one in"


def test_the_options_that_let_all_of_them_in_are_named_at_once(host: Host) -> None:
    names = ("wasi:sockets/tcp@0.2.6", "wasi:io/poll@0.2.6")
    with pytest.raises(errors.ContractError) as caught:
        host.load(_two_more(*names))
    assert f"--allow-import {names[0]} --allow-import {names[1]}" in str(caught.value)
    with pytest.raises(errors.ContractError, match="does not have"):
        host.load(_two_more(*names), wasi=names).run({})  # there is no function x in them


def test_hundreds_of_imports_are_told_in_a_few_words(host: Host) -> None:
    declared = "".join(f'(import "evil:corp/part{n}@1.0.0" (instance))' for n in range(300))
    with pytest.raises(errors.ContractError, match="and 288 more") as caught:
        host.load(bytes(wat2wasm(component_text().replace("(component", f"(component {declared}", 1))))
    assert len(str(caught.value)) < 1_000


def test_the_operator_may_name_more_of_wasi_and_it_is_empty_all_the_same(host: Host) -> None:
    poll = _importing("wasi:io/poll@0.2.6", "poll", "(func (result string))")
    with pytest.raises(errors.ContractError, match="wasi:io/poll"):
        host.load(poll)
    with pytest.raises(errors.ContractError):  # of another type than wasmtime's
        host.load(poll, wasi=["wasi:io/poll"]).run({})
    assert host.load(wat("rust_like"), wasi=["wasi:io/poll"]).run({}).ok


@pytest.mark.parametrize(
    "named", ["cyfr:http/fetch@9.9.9", "evil:corp/backdoor", "wasi:http/types", "wasi:io/../x", "*"]
)
def test_naming_what_is_not_wasi_lets_nothing_in(host: Host, named: str) -> None:
    with pytest.raises(errors.ContractError):
        host.load(wat("hostile/imports_unknown"), wasi=[named, "evil:corp/backdoor@1.0.0"])


def test_a_type_that_would_fill_megabytes_is_named_in_a_few_words(host: Host) -> None:
    """Each type holds the one before it twice: written out, it doubles with every line."""
    types = "(type $t0 (result string (error string)))"
    types += "".join(f"(type $t{n} (result $t{n - 1} (error $t{n - 1})))" for n in range(1, 17))
    text = '(import "cyfr:http/fetch@0.1.0" (instance (export "request" (func (param "j" $t16) (result string)))))'
    with pytest.raises(errors.ContractError) as caught:
        host.load(bytes(wat2wasm(f"(component {types} {text})")))
    assert len(str(caught.value)) < 200


def test_a_function_of_a_thousand_parameters_is_named_in_a_few_words(host: Host) -> None:
    many = " ".join(f'(param "p{n}" u8)' for n in range(900))
    with pytest.raises(errors.ContractError) as caught:
        host.load(_importing("cyfr:http/fetch@0.1.0", "request", f"(func {many} (result string))"))
    assert len(str(caught.value)) < 300
