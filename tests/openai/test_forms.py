"""Forms, of people who do not mean well too."""

from __future__ import annotations

import time

import pytest

from host.errors import InputError
from host.openai import forms
from host.openai.forms import FormPart, read_form
from tests.conftest import slack

TYPE = "multipart/form-data; boundary=x"


def part(head: bytes = b'Content-Disposition: form-data; name="a"', content: bytes = b"1") -> bytes:
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


END = b"--x--\r\n"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        pytest.param(part() + END, [FormPart("a", b"1", None, "")], id="a field"),
        pytest.param(b"hello\r\n" + part() + END + b"bye", [FormPart("a", b"1", None, "")], id="text before and after"),
        pytest.param(END, [], id="no part"),
        pytest.param(part(content=b"") + END, [FormPart("a", b"", None, "")], id="an empty field"),
        pytest.param(
            part(content=b"a--x\r\n-- x\r\n--") + END, [FormPart("a", b"a--x\r\n-- x\r\n--", None, "")], id="almost a boundary"
        ),
        pytest.param(b"--x  \r\n" + part()[5:] + END, [FormPart("a", b"1", None, "")], id="blanks after a boundary"),
        pytest.param(
            part(b'content-type: text/plain\r\nCONTENT-DISPOSITION: form-data; filename="b.txt"; name=a') + END,
            [FormPart("a", b"1", "b.txt", "text/plain")],
            id="a file",
        ),
        pytest.param(
            part(b'Content-Disposition: form-data; name="a\\"b;c"; filename=""') + END,
            [FormPart('a"b;c', b"1", "", "")],
            id="a name with quotes",
        ),
        pytest.param(
            part('Content-Disposition: form-data; name="\u20ac"'.encode()) + END, [FormPart("\u20ac", b"1", None, "")], id="UTF-8"
        ),
    ],
)  # fmt: skip
def test_a_form_is_its_parts(body: bytes, found: list[FormPart]) -> None:
    assert read_form(TYPE, body) == found


@pytest.mark.parametrize(
    ("given", "filename"),
    [
        pytest.param('filename="a b\u202f€.txt"', "a b\u202f€.txt", id="a narrow no-break space"),
        pytest.param('filename="C:\\\\dir\\\\a.txt"', "C:\\dir\\a.txt", id="a path, escaped"),
        pytest.param('filename="C:\\dir\\a.txt"', "C:\\dir\\a.txt", id="a path, as browsers write it"),
        pytest.param('filename="a\\"b.txt"', 'a"b.txt', id="a quote"),
        pytest.param('filename="a%22b.txt"', "a%22b.txt", id="a quote, as browsers write it"),
        pytest.param('filename="a;b=c.txt"', "a;b=c.txt", id="signs of the syntax"),
        pytest.param("filename*=UTF-8''%e2%82%ac%20b.txt", "€ b.txt", id="an encoded name"),
        pytest.param(
            "filename=\"b.txt\"; filename*=utf-8'en'%e2%82%ac.txt", "€.txt", id="an encoded name beside another"
        ),
        pytest.param("filename*=x; filename=b.txt", "b.txt", id="no encoded name"),
        pytest.param('filename=""', "", id="an empty name"),
    ],
)
def test_a_file_keeps_its_name(given: str, filename: str) -> None:
    head = f'Content-Disposition: form-data; name="x; filename=no"; {given}'.encode()
    assert read_form(TYPE, part(head) + END) == [FormPart("x; filename=no", b"1", filename, "")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--y\r\n", id="another boundary"),
        pytest.param(part(), id="no end"),
        pytest.param(b"--x\r\n\r\n1\r\n" + END, id="no headers"),
        pytest.param(b"--x\r\nno colon\r\n\r\n1\r\n" + END, id="a header that is none"),
        pytest.param(part(b"Content-Disposition: form-data") + END, id="no name"),
        pytest.param(b"--xy" + part()[3:] + END, id="text after a boundary"),
        pytest.param(b'--x\r\nContent-Disposition: form-data; name="a"\r\n' + END, id="no content"),
        pytest.param(part(b"a: b\r\n" * forms.MAX_PART_HEADERS + part()[5:45]) + END, id="many headers"),
        pytest.param(part(b"a: " + b"b" * forms.MAX_PART_HEAD_BYTES) + END, id="a long header"),
        pytest.param(part(b'Content-Disposition: form-data; name="%s"' % (b"a" * 300)) + END, id="a long name"),
        pytest.param(part() * 1_001 + END, id="many parts"),
    ],
)
def test_a_form_that_is_malformed_or_beyond_measure_is_a_mistake(body: bytes) -> None:
    with pytest.raises(InputError) as raised:
        read_form(TYPE, body)
    assert raised.value.field == "body"


@pytest.mark.parametrize("boundary", ["", "a" * 71, '"' + "a" * 9_000 + '"'])
def test_a_boundary_has_70_characters_at_most(boundary: str) -> None:
    with pytest.raises(InputError, match="1 to 70"):
        read_form(f"multipart/form-data; boundary={boundary}", part() + END)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"a: b\r\n" * 3_000_000, id="headers without end"),
        pytest.param(part(content=b"\r\n--" * 4_000_000) + END, id="beginnings of boundaries"),
        pytest.param(part(content=b"\r" * 16_000_000) + END, id="line ends"),
        pytest.param(part() * 300_000 + END, id="parts without end"),
    ],
)
def test_sixteen_megabytes_that_are_made_to_be_slow_are_not(body: bytes) -> None:
    began = time.thread_time()
    for one in (body, b"--x\r\n" + body):
        try:
            read_form(TYPE, one)
        except InputError:
            continue
    assert time.thread_time() - began < slack(0.5)
