import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.fakes.messages import Delivery, FakeRequest, MultipartError, Part, encode_json, parse_multipart

EVENTS = st.lists(st.binary(min_size=1, max_size=9), max_size=6)


@given(EVENTS, st.integers(0, 60))
def test_a_body_cut_after_bytes_is_a_beginning_of_it(events, count):
    whole = b"".join(events)
    assert b"".join(Delivery(cut_after_bytes=count).pieces(events)) == whole[:count]


@given(EVENTS, st.integers(0, 8))
def test_a_body_cut_after_events_has_the_first_of_them(events, count):
    assert list(Delivery(cut_after_events=count).pieces(events)) == events[:count]


@given(EVENTS)
def test_a_dripped_body_is_the_same_in_single_bytes(events):
    pieces = list(Delivery(drip_s=0.0).pieces(events))
    assert b"".join(pieces) == b"".join(events)
    assert all(len(piece) == 1 for piece in pieces)


def test_an_endless_body_is_taken_as_it_comes():
    def endless():
        while True:
            yield b"ab"

    assert list(Delivery(cut_after_bytes=5).pieces(endless())) == [b"ab", b"ab", b"a"]


def test_json_is_raw_utf_8_with_lone_surrogates_escaped():
    assert encode_json(["東京", "\ud800"]) == '["東京","\\ud800"]'.encode()


def test_a_target_is_split_and_left_encode_json():
    request = FakeRequest.from_target("GET", "//a%2Fb/c?x=%20&x=+#f", {}, b"", "http://127.0.0.1:1")
    assert (request.path, request.query) == ("//a%2Fb/c", "x=%20&x=+#f")
    absolute = FakeRequest.from_target("GET", "http://else.where:1?a=b", {}, b"", "http://127.0.0.1:1")
    assert (absolute.path, absolute.arguments) == ("/", {"a": "b"})


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
    parts = parse_multipart(request.read(), request.headers["content-type"])
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
    assert parse_multipart(body, FORM) == [Part("a", None, "", content)]


def test_preamble_padding_and_epilogue_are_skipped():
    body = b"preamble\r\n--edge \t\r\n" + DISPOSITION + b"\r\n\r\nx\r\n--edge--\r\nepilogue\r\n--edge\r\n"
    assert parse_multipart(body, 'Multipart/Form-Data; charset=utf-8; Boundary="edge"') == [Part("a", None, "", b"x")]


def test_header_names_are_read_in_any_case():
    body = (
        b'--edge\r\ncontent-TYPE: text/x\r\ncontent-disposition: form-data; filename="f"; name="a"\r\n\r\nx\r\n--edge--'
    )
    assert parse_multipart(body, FORM) == [Part("a", "f", "text/x", b"x")]


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
    assert parse_multipart(body, FORM) == [Part("a", filename, "", b"x")]


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
        parse_multipart(body, content_type)
