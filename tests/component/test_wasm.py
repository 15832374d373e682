"""Custom sections, read without compiling and without believing what the binary says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.component.wasm import (
    COMPONENT_PREAMBLE,
    CORE_PREAMBLE,
    MAX_SECTION_BYTES,
    append_section,
    check_component,
    custom_sections,
)
from host.errors import NotAComponent


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=5))
def test_what_was_appended_is_read_in_order(sections: list[tuple[str, bytes]]) -> None:
    wasm = COMPONENT_PREAMBLE
    for name, content in sections:
        wasm = append_section(wasm, name, content)
    assert list(custom_sections(wasm)) == sections


def test_other_sections_are_passed_over() -> None:
    other = b"\x01\x03abc"
    assert list(custom_sections(append_section(COMPONENT_PREAMBLE + other, "a", b"b") + other)) == [("a", b"b")]


def test_of_a_section_of_more_than_a_mebibyte_as_much_is_read_as_shows_that_it_is_one() -> None:
    big = append_section(COMPONENT_PREAMBLE, "big", bytes(2 * MAX_SECTION_BYTES))
    [(name, content), small] = custom_sections(append_section(big, "small", b"x"))
    assert (name, len(content), small) == ("big", MAX_SECTION_BYTES + 1, ("small", b"x"))


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(CORE_PREAMBLE, "core WebAssembly module", id="a core module"),
        pytest.param(b"\0asm\x0e\0\x01\0", "unknown version", id="another version"),
        pytest.param(b"  (component)", "text", id="component text"),
        pytest.param(b"(module)", "text", id="module text"),
        pytest.param(b"\x7fELF", "not a WebAssembly component", id="a program"),
        pytest.param(COMPONENT_PREAMBLE[:-1], "unknown version", id="a preamble cut short"),
    ],
)
def test_what_is_no_component_is_told_what_it_is(wasm: bytes, said: str) -> None:
    with pytest.raises(NotAComponent, match=said):
        check_component(wasm)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"\0", id="no size"),
        pytest.param(b"\0\x80", id="a size cut short"),
        pytest.param(b"\0\xff\xff\xff\xff\xff\xff\x01", id="a size of too many bytes"),
        pytest.param(b"\0\xff\xff\xff\xff\x0f", id="a size beyond the end"),
        pytest.param(b"\0\x05\x00abc", id="a section cut short"),
        pytest.param(b"\0\x02\x05a", id="a name beyond its section"),
        pytest.param(b"\0\x00", id="a custom section without a name"),
    ],
)
def test_sections_that_do_not_add_up(rest: bytes) -> None:
    with pytest.raises(NotAComponent):
        list(custom_sections(COMPONENT_PREAMBLE + rest))


def test_a_name_beyond_its_section_does_not_reach_into_the_next() -> None:
    with pytest.raises(NotAComponent):
        list(custom_sections(append_section(COMPONENT_PREAMBLE + b"\0\x02\x05a", "next", b"x")))


@given(st.binary(max_size=60))
def test_any_bytes_are_sections_or_no_component(rest: bytes) -> None:
    try:
        found = list(custom_sections(COMPONENT_PREAMBLE + rest))
    except NotAComponent:
        return
    assert sum(len(content) for _, content in found) <= len(rest)
