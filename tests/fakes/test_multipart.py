import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.fakes.multipart import MultipartError, Part, parse

FORM = "multipart/form-data; boundary=edge"
DISPOSITION = b'Content-Disposition: form-data; name="a"'


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1),
            st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1),
            st.binary(),
        ),
        max_size=4,
    )
)
def test_what_an_http_client_uploads_arrives_byte_for_byte(uploads):
    files = [(name, (filename, content, "audio/wav")) for name, filename, content in uploads] or [
        ("x", ("y", b"", "z"))
    ]
    request = httpx2.Request("POST", "http://fake/", files=files)
    parts = parse(request.read(), request.headers["content-type"])
    assert [part.content for part in parts] == [content for _, (_, content, _) in files]
    assert all(part.content_type == files[0][1][2] for part in parts)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="a line break alone"),
        pytest.param(b"no newline at the end", id="no newline at the end"),
        pytest.param(b"\r\n--edg\r\n--", id="what begins like a boundary"),
        pytest.param(b"x--edge--\n--edge--", id="boundaries without their line break before them"),
        pytest.param(b"a\rb\nc\r\nd\0e\n\r\n\r\n", id="every kind of line break, and NUL"),
        pytest.param(bytes(range(256)) * 3, id="every byte"),
    ],
)
def test_content_is_not_touched(content):
    body = b"--edge\r\n" + DISPOSITION + b"\r\n\r\n" + content + b"\r\n--edge--\r\n"
    assert parse(body, FORM) == [Part("a", None, "", content)]


def test_preamble_padding_and_epilogue_are_skipped():
    body = b"preamble\r\n--edge \t\r\n" + DISPOSITION + b"\r\n\r\nx\r\n--edge--\r\nepilogue\r\n--edge\r\n"
    assert parse(body, 'Multipart/Form-Data; charset=utf-8; Boundary="edge"') == [Part("a", None, "", b"x")]


def test_header_names_are_read_in_any_case():
    body = (
        b'--edge\r\ncontent-TYPE: text/x\r\ncontent-disposition: form-data; filename="f"; name="a"\r\n\r\nx\r\n--edge--'
    )
    assert parse(body, FORM) == [Part("a", "f", "text/x", b"x")]


@pytest.mark.parametrize(
    ("written", "filename"),
    [
        pytest.param(b"a.txt", "a.txt", id="a plain name"),
        pytest.param(b'say \\"hi\\".txt', 'say "hi".txt', id="quotes behind backslashes"),
        pytest.param(b"say %22hi%22.txt", 'say "hi".txt', id="quotes as browsers write them"),
        pytest.param(b"two%0D%0Alines", "two\r\nlines", id="line breaks as browsers write them"),
        pytest.param(b"100%25; name=x", "100%25; name=x", id="other escapes and semicolons are text"),
        pytest.param("señal 東京.wav".encode(), "señal 東京.wav", id="UTF-8"),
        pytest.param(b"", "", id="an empty name is a file all the same"),
    ],
)
def test_filenames_are_unescaped(written, filename):
    body = b"--edge\r\n" + DISPOSITION + b'; filename="' + written + b'"\r\n\r\nx\r\n--edge--'
    assert parse(body, FORM) == [Part("a", filename, "", b"x")]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"--edge--", "application/json", id="another type"),
        pytest.param(b"--edge--", "multipart/form-data", id="no boundary named"),
        pytest.param(b"", FORM, id="an empty body"),
        pytest.param(b"--edge\r\n" + DISPOSITION + b"\r\n\r\nx", FORM, id="no closing boundary"),
        pytest.param(b"--edge\r\n" + DISPOSITION + b"\r\n\r\nx\r\n--edge\r\n", FORM, id="cut after a boundary"),
        pytest.param(b"--edgeX\r\n" + DISPOSITION + b"\r\n\r\nx\r\n--edge--", FORM, id="a longer boundary"),
        pytest.param(b"--edge\r\n" + DISPOSITION + b"\r\nx\r\n--edge--", FORM, id="no blank line after the headers"),
        pytest.param(b"--edge\r\n" + DISPOSITION + b"\r\nbad\r\n\r\nx\r\n--edge--", FORM, id="a header without colon"),
        pytest.param(b"--edge\r\nX: y\r\n\r\nx\r\n--edge--", FORM, id="no disposition"),
        pytest.param(b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--", FORM, id="no name"),
        pytest.param(b'--edge\r\nContent-Disposition: file; name="a"\r\n\r\nx\r\n--edge--', FORM, id="not form-data"),
    ],
)
def test_what_is_malformed_is_refused(body, content_type):
    with pytest.raises(MultipartError):
        parse(body, content_type)
