"""Secrets do not show, go out only where placeholders stand, and come back from nowhere in any spelling."""

import base64
import copy
import html
import json
import logging
import pickle
import pprint
import re
import traceback
from dataclasses import asdict, dataclass
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from host.errors import InputError
from host.secrets import redaction
from host.secrets.redaction import Redactor
from host.secrets.value import SecretValue, Substitution, new_placeholder
from host.secrets.windows import SHORTEST_RECODED

KEY = "sk-proj_Ab/9+xY.~z=Q7"
LONG = "sk-proj-Ab9xYz0123QwErTy-zz_y7"  # of which 22 characters are behind what everybody knows
SHOWN = "host-secret-" + "0" * 32


def redactor(*values: str) -> Redactor:
    return Redactor({f"<{number}>": SecretValue(value) for number, value in enumerate(values)})


# --- values that do not show ------------------------------------------------------------------------------------------


@dataclass
class Holder:
    secret: SecretValue


def logged(secret: SecretValue) -> str:
    record = logging.LogRecord("host", logging.ERROR, __file__, 1, "secret %s %r", (secret, secret), None)
    return logging.Formatter().format(record)


def raised(secret: SecretValue) -> str:
    with pytest.raises(ValueError, match="SecretValue") as caught:
        raise ValueError(secret)
    return "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())


@pytest.mark.parametrize(
    "tell",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(ascii, id="ascii"),
        pytest.param(lambda secret: f"{secret} {secret!r}", id="an f-string"),
        pytest.param(lambda secret: f"{secret:>40}", id="a format with a width"),
        pytest.param(lambda secret: format(secret, "s"), id="format"),
        pytest.param(lambda secret: "%s %r" % (secret, secret), id="percent"),  # noqa: UP031 the way under test
        pytest.param(lambda secret: pprint.pformat({"secret": [secret]}), id="pprint within containers"),
        pytest.param(lambda secret: repr(Holder(secret)), id="the repr of a dataclass around it"),
        pytest.param(lambda secret: repr(asdict(Holder(secret))), id="asdict of a dataclass around it"),
        pytest.param(lambda secret: json.dumps({"secret": secret}, default=str), id="json with a lenient default"),
        pytest.param(lambda secret: repr(copy.deepcopy([secret])), id="a deep copy"),
        pytest.param(raised, id="a traceback with local variables"),
        pytest.param(logged, id="a log record"),
    ],
)
def test_a_secret_does_not_show_in(tell):
    assert KEY not in tell(SecretValue(KEY))


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(vars, id="vars"),
        pytest.param(json.dumps, id="json"),
        pytest.param(pickle.dumps, id="pickle"),
        pytest.param(hash, id="hash"),
        pytest.param(len, id="len"),
        pytest.param(iter, id="iter"),
    ],
)
def test_a_secret_refuses(take):
    with pytest.raises(TypeError) as caught:
        take(SecretValue(KEY))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("thing", [redactor(KEY), redactor(KEY).stream(), Substitution({SHOWN: SecretValue(KEY)})])
def test_what_works_with_secrets_neither_shows_nor_pickles_them(thing):
    assert KEY not in f"{thing} {thing!r}"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(thing)


def test_a_copy_of_a_secret_is_the_secret():
    secret = SecretValue(KEY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret


def test_secrets_are_equal_by_value_and_to_nothing_but_secrets():
    assert SecretValue(KEY) == SecretValue(KEY)
    assert SecretValue(KEY) != SecretValue(KEY + "x")
    assert SecretValue(KEY) != KEY
    assert SecretValue("naïve") == SecretValue("naïve")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="only a space"),
        pytest.param(KEY + "\n", id="a line break behind it"),
        pytest.param(" " + KEY, id="a space before it, which servers drop from a header"),
        pytest.param("a\nb", id="LF"),
        pytest.param("a\rb", id="CR"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("a\tb", id="a tab"),
        pytest.param("a\ud800b", id="a lone surrogate"),
    ],
)
def test_a_value_that_no_header_can_hold_is_refused_without_being_told(text):
    with pytest.raises(InputError) as caught:
        SecretValue(text)
    assert caught.value.__context__ is None
    assert not text.strip() or text not in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_break_at_the_end_of_a_file_is_not_part_of_the_secret(end):
    assert SecretValue.from_file_text(KEY + end).reveal() == KEY


@pytest.mark.parametrize("end", ["\n\n", "\r", " \n", "\n "])
def test_anything_more_at_the_end_of_a_file_is_refused(end):
    with pytest.raises(InputError):
        SecretValue.from_file_text(KEY + end)


# --- placeholders and where they are replaced -------------------------------------------------------------------------


def test_placeholders_differ_and_are_spelled_the_same_everywhere():
    one, other = new_placeholder(), new_placeholder()
    assert one != other
    assert re.fullmatch("host-secret-[0-9a-f]{32}", one)
    assert {quote(one, safe=""), quote_plus(one), html.escape(one), json.dumps(one)[1:-1]} == {one}


def test_each_placeholder_becomes_its_value_and_is_reported():
    one, other, unused = (new_placeholder() for _ in range(3))
    substitution = Substitution({one: SecretValue("first"), other: SecretValue("second"), unused: SecretValue("third")})
    assert substitution.apply_text(f"{one}:{other}:{one}0") == ("first:second:first0", {one, other})
    assert substitution.apply_bytes(f"{other}\xff".encode("latin-1")) == (b"second\xff", {other})


def test_a_placeholder_without_a_binding_stays():
    assert Substitution({}).apply_text(SHOWN) == (SHOWN, frozenset())
    assert Substitution({new_placeholder(): SecretValue(KEY)}).apply_bytes(SHOWN.encode()) == (
        SHOWN.encode(),
        frozenset(),
    )


def test_a_value_that_looks_like_a_placeholder_is_not_replaced_again():
    one, other = new_placeholder(), new_placeholder()
    substitution = Substitution({one: SecretValue(other), other: SecretValue(KEY)})
    assert substitution.apply_text(one) == (other, {one})


def test_a_key_that_is_no_placeholder_is_a_mistake():
    with pytest.raises(ValueError, match="not a placeholder"):
        Substitution({"a": SecretValue(KEY)})


def test_lone_surrogates_around_a_placeholder_stay():
    assert Substitution({SHOWN: SecretValue("v")}).apply_text(f"\ud800{SHOWN}\udfff") == ("\ud800v\udfff", {SHOWN})


def test_basic_credentials_are_replaced_inside_their_base64():
    header = "Basic " + base64.b64encode(f"user:{SHOWN}".encode()).decode()
    value, used = Substitution({SHOWN: SecretValue(KEY)}).apply_header("Authorization", header)
    assert base64.b64decode(value.removeprefix("Basic ")) == f"user:{KEY}".encode()
    assert used == {SHOWN}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("authorization", f"Bearer {SHOWN}", f"Bearer {KEY}", id="bearer tokens are plain"),
        pytest.param("authorization", f"Basic {SHOWN}", f"Basic {KEY}", id="basic without base64 is plain"),
        pytest.param("Authorization", "Basic dTpw", "Basic dTpw", id="other credentials stay"),
        pytest.param("Authorization", "Basic é", "Basic é", id="nonsense stays"),
        pytest.param("x-api-key", SHOWN, KEY, id="any header may hold one"),
    ],
)
def test_in_headers(name, value, expected):
    assert Substitution({SHOWN: SecretValue(KEY)}).apply_header(name, value)[0] == expected


def test_in_a_url_a_value_cannot_end_its_parameter():
    url, _ = Substitution({SHOWN: SecretValue("a&b=c#/d é")}).apply_url(f"https://example.com/?key={SHOWN}&x=1")
    assert url == "https://example.com/?key=a%26b%3Dc%23%2Fd%20%C3%A9&x=1"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        pytest.param("application/json; charset=utf-8", rb"a\"b\\c &", id="JSON strings are escaped"),
        pytest.param("application/vnd.api+JSON", rb"a\"b\\c &", id="so are those of its dialects"),
        pytest.param("application/x-www-form-urlencoded", b"a%22b%5Cc+%26", id="form fields are percent-encoded"),
        pytest.param("text/plain", rb'a"b\c &', id="text is plain"),
    ],
)
def test_in_a_body_a_value_is_written_as_its_type_needs_it(content_type, expected):
    assert Substitution({SHOWN: SecretValue(r'a"b\c &')}).apply_bytes(SHOWN.encode(), content_type)[0] == expected


# --- what is found ----------------------------------------------------------------------------------------------------


def in_base64(before: bytes, value: str, after: bytes = b"", *, urlsafe: bool = False) -> str:
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(before + value.encode() + after).decode()


def alternating(text: str) -> str:
    return "".join(character.upper() if place % 2 else character for place, character in enumerate(text))


ENCODINGS = [
    pytest.param(lambda v: v, id="plain"),
    pytest.param(lambda v: in_base64(b"", v), id="base64"),
    pytest.param(lambda v: in_base64(b"", v).rstrip("="), id="base64 without padding"),
    pytest.param(lambda v: in_base64(b"1", v, b"tail"), id="base64 one byte into a longer text"),
    pytest.param(lambda v: in_base64(b"\xff\xff", v, b"\xff"), id="base64 two bytes into a longer text"),
    pytest.param(lambda v: in_base64(b"", v, urlsafe=True), id="URL-safe base64"),
    pytest.param(lambda v: in_base64(b"user:", v, urlsafe=True).rstrip("="), id="URL-safe base64 of credentials"),
    pytest.param(lambda v: quote(in_base64(b"1", v), safe=""), id="base64 in a URL"),
    pytest.param(lambda v: in_base64(b"", v).replace("/", r"\/").replace("+", r"\u002B"), id="base64 in JSON"),
    pytest.param(lambda v: v.encode().hex(), id="hex"),
    pytest.param(lambda v: v.encode().hex().upper(), id="hex in capitals"),
    pytest.param(lambda v: alternating(v.encode().hex()), id="hex in mixed case"),
    pytest.param(quote, id="percent-encoded as little as need be"),
    pytest.param(lambda v: quote(v, safe=""), id="percent-encoded as a component"),
    pytest.param(quote_plus, id="percent-encoded as a form field"),
    pytest.param(lambda v: "".join(f"%{byte:02X}" for byte in v.encode()), id="percent-encoded throughout"),
    pytest.param(lambda v: "".join(f"%{byte:02x}" for byte in v.encode()), id="percent-encoded in small letters"),
    pytest.param(lambda v: quote(quote(v)), id="percent-encoded twice"),
    pytest.param(lambda v: json.dumps(v)[1:-1], id="JSON in ASCII"),
    pytest.param(lambda v: json.dumps(v, ensure_ascii=False)[1:-1], id="JSON in UTF-8"),
    pytest.param(lambda v: json.dumps(v)[1:-1].replace("/", r"\/"), id="JSON with escaped slashes"),
    pytest.param(lambda v: json.dumps(json.dumps(json.dumps(v)[1:-1])[1:-1])[1:-1], id="JSON in JSON in JSON"),
    pytest.param(lambda v: "".join(rf"\u{ord(c):04x}" if ord(c) < 65536 else c for c in v), id="JSON all escapes"),
    pytest.param(
        lambda v: "".join(rf"\u{ord(c):04X}" if ord(c) < 65536 else c for c in v), id="JSON in capital escapes"
    ),
    pytest.param(lambda v: "".join(rf"\x{ord(c):02X}" if c.isascii() else c for c in v), id="JavaScript escapes"),
    pytest.param(lambda v: re.sub(r"([-_.+*~])", r"\\\1", v) if "\\" not in v else v, id="Markdown escapes"),
    pytest.param(html.escape, id="HTML"),
    pytest.param(lambda v: html.escape(html.escape(v)), id="HTML twice"),
    pytest.param(lambda v: "".join(f"&#{ord(c)};" for c in v), id="HTML decimal references"),
    pytest.param(lambda v: "".join(f"&#x{ord(c):X};" for c in v), id="HTML hexadecimal references"),
    pytest.param(lambda v: json.dumps(html.escape(v))[1:-1].replace("&", r"\u0026"), id="HTML in careful JSON"),
]


def percents(v: str) -> str:
    return "".join(f"%{byte:02x}" for byte in v.encode())


def wrapped(text: str, columns: int, line_break: str) -> str:
    return line_break.join(text[at : at + columns] for at in range(0, len(text), columns))


MORE_ENCODINGS = [
    pytest.param(lambda v: v.encode("utf-16-le"), id="UTF-16, little end first"),
    pytest.param(lambda v: v.encode("utf-16-be"), id="UTF-16, big end first"),
    pytest.param(lambda v: v.encode("utf-32-le"), id="UTF-32, little end first"),
    pytest.param(lambda v: v.encode("utf-32-be"), id="UTF-32, big end first"),
    pytest.param(lambda v: v.encode("cp037"), id="EBCDIC"),
    pytest.param(lambda v: v.encode("cp500"), id="international EBCDIC"),
    pytest.param(lambda v: v.upper(), id="capitals"),
    pytest.param(lambda v: v.lower(), id="small letters"),
    pytest.param(lambda v: v.swapcase(), id="the other case"),
    pytest.param(lambda v: base64.b32encode(v.encode()).decode(), id="base32"),
    pytest.param(
        lambda v: base64.b32encode(b"abc" + v.encode() + b"d").decode().lower().rstrip("="), id="small base32"
    ),
    pytest.param(lambda v: base64.b32hexencode(b"a" + v.encode()).decode(), id="base32 of the hexadecimal alphabet"),
    pytest.param(lambda v: in_base64(b"", in_base64(b"", v)), id="base64 twice"),
    pytest.param(lambda v: in_base64(b"ab", in_base64(b"c", v, b"d"), b"e"), id="base64 twice, further in"),
    pytest.param(lambda v: in_base64(b"", v.encode().hex()), id="base64 of hex"),
    pytest.param(lambda v: in_base64(b"1", v).encode().hex(), id="hex of base64"),
    pytest.param(lambda v: in_base64(b"", percents(v)), id="base64 of percent signs"),
    pytest.param(lambda v: in_base64(b"", json.dumps({"k": v})), id="base64 of JSON"),
    pytest.param(lambda v: base64.b64encode(v.encode("utf-16-le")).decode(), id="base64 of UTF-16"),
    pytest.param(lambda v: v.encode("utf-16-be").hex(), id="hex of UTF-16"),
    pytest.param(lambda v: wrapped(in_base64(b"z" * 55, v, b"z" * 50), 64, "\n"), id="base64 in lines of 64"),
    pytest.param(lambda v: wrapped(in_base64(b"z" * 50, v, b"z" * 50), 76, "\r\n"), id="base64 in lines of 76, CR LF"),
    pytest.param(lambda v: wrapped(in_base64(b"z" * 50, v, b"z" * 50), 76, r"\r\n"), id="base64 in lines, in JSON"),
    pytest.param(lambda v: wrapped(in_base64(b"z" * 55, v, b"z" * 50), 64, r"\n"), id="base64 in lines of 64, in JSON"),
    pytest.param(
        lambda v: wrapped(in_base64(b"z" * 55, v, b"z" * 50), 64, r"\\n"), id="base64 in lines, in JSON twice"
    ),
    pytest.param(lambda v: v.encode().hex(":"), id="hex with colons"),
    pytest.param(lambda v: v.encode().hex(" ").upper(), id="hex with spaces"),
    pytest.param(lambda v: v.encode().hex("-"), id="hex with hyphens"),
    pytest.param(lambda v: ", ".join(f"0x{byte:02x}" for byte in v.encode()), id="a list of hex numbers"),
    pytest.param(lambda v: ",".join(f"0X{byte:02X}" for byte in v.encode()), id="a list of capital hex numbers"),
    pytest.param(lambda v: " ".join(f"U+{ord(c):04X}" for c in v), id="code points"),
    pytest.param(lambda v: json.dumps(list(v.encode())), id="a list of decimal numbers"),
    pytest.param(lambda v: json.dumps(list(v.encode()), separators=(",", ":")), id="a list without spaces"),
    pytest.param(lambda v: "".join(f"%u{ord(c):04x}" for c in v), id="%u escapes"),
    pytest.param(lambda v: "".join(f"%U{ord(c):04x}".replace("U", "u") for c in v).replace("%", "%25"), id="%u twice"),
    pytest.param(lambda v: "".join(f"&#{ord(c):05d};" for c in v), id="references with zeros"),
    pytest.param(lambda v: "".join(f"&#X{ord(c):04X};" for c in v), id="references with a capital X"),
    pytest.param(lambda v: "".join(f"&#x{ord(c):x}" for c in v), id="without semicolons"),
    pytest.param(lambda v: "".join(f"&#{ord(c)}" for c in v), id="decimal references without semicolons"),
    pytest.param(lambda v: v.replace("-", "&hyphen;").replace("_", "&lowbar;").replace("/", "&sol;"), id="named signs"),
    pytest.param(lambda v: "".join(rf"\u{{{ord(c):x}}}" for c in v), id="escapes in braces"),
    pytest.param(lambda v: "".join(rf"\x{{{ord(c):x}}}" for c in v), id="hex escapes in braces"),
    pytest.param(lambda v: "".join(rf"\U{ord(c):08x}" for c in v), id="escapes of eight digits"),
    pytest.param(lambda v: "".join(rf"\{ord(c):o}" for c in v), id="octal escapes"),
    pytest.param(lambda v: "".join(rf"\{ord(c):03o}" for c in v), id="octal escapes of three digits"),
    pytest.param(lambda v: "".join(f"={byte:02X}" for byte in v.encode()), id="quoted-printable"),
    pytest.param(lambda v: v[:9] + "=\r\n" + v[9:], id="a soft line break"),
    pytest.param(lambda v: v[:9] + "=\n" + v[9:], id="a soft line break of LF"),
    pytest.param(lambda v: v.replace("/", "%5C%2F").replace("_", "%5C_"), id="a backslash and a sign in percent signs"),
    pytest.param(lambda v: percents(html.escape(v.replace("=", "&#61;"))), id="references in percent signs"),
    pytest.param(lambda v: json.dumps(percents(v))[1:-1].replace("%", r"\u0025"), id="percent signs in escapes"),
    pytest.param(lambda v: re.sub(r"%", "%2525252525", percents(v)), id="percent-encoded six times"),
    pytest.param(lambda v: re.sub("&", "&amp;amp;amp;", "".join(f"&#{ord(c)};" for c in v)), id="HTML four times"),
]


@pytest.mark.parametrize("encode", [*ENCODINGS, *MORE_ENCODINGS])
@pytest.mark.parametrize("value", [KEY, LONG, "AKIAIOSFODNN7EXAMPLE", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"])
def test_every_encoding_is_found_at_once_and_in_pieces(encode, value):
    encoded = encode(value)
    for end in (" again", "\n\n"):
        data = b'say "' + (encoded if isinstance(encoded, bytes) else encoded.encode()) + b'"' + end.encode()
        whole = redactor(value).data(data)
        assert b"<0>" in whole
        for size in (1, 7, 64):
            assert in_chunks(redactor(value), data, list(range(0, len(data), size))) == whole


secret_texts = st.one_of(
    st.sampled_from(
        [KEY, "a\"b\\c<d>&e'f/g", "päß wörd-ключ-🔑", "100%25%41%2525!", "&amp;&#38;amp;", "0123456789", "\\\\u0041\\u"]
    ),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=SHORTEST_RECODED, max_size=40),
    st.text("aA0/+-_%\\&", min_size=SHORTEST_RECODED, max_size=40),
).filter(lambda text: text == text.strip())


@pytest.mark.parametrize("encode", ENCODINGS)
@settings(deadline=None, max_examples=40)
@given(value=secret_texts)
def test_every_encoding_of_every_secret_is_found(encode, value):
    redact = redactor(value)
    encoded = encode(value).encode()
    redacted = redact.data(b"<< " + encoded + b" >>")
    assert redacted.startswith(b"<< ")
    assert redacted.endswith(b" >>")
    assert b"<0>" in redacted
    assert redact.data(redacted) == redacted


@pytest.mark.parametrize("encode", ENCODINGS)
def test_no_character_of_an_encoded_key_is_left(encode):
    redacted = redactor(KEY).text(f" {encode(KEY)} ")
    assert re.fullmatch(r" [\w+/]{0,6}<0>([\w+/=]|%3D){0,6} ", redacted), "but what base64 makes of its neighbours"


def test_base64_of_the_key_alone_leaves_only_its_padding():
    for length in range(SHORTEST_RECODED, 20):
        assert redactor("k" * length).text(in_base64(b"", "k" * length)).strip("=") == "<0>"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KEY[:-8], id="less than a window at the beginning"),
        pytest.param(KEY[-11:], id="less than a window at the end"),
        pytest.param(KEY[:12] + " " + KEY[12:], id="a space within"),
        pytest.param(KEY[:9] + KEY[10:], id="a character missing"),
        pytest.param(in_base64(b"", KEY[:-2]), id="base64 of less than a window"),
        pytest.param(in_base64(b"", KEY).swapcase(), id="base64 in the other case"),
        pytest.param(KEY.encode().hex()[:-3], id="hex of less than a window"),
        pytest.param(KEY[:-2] + "%5", id="half an escape at the end"),
        pytest.param("".join(f"%{ord(c):02x}" for c in KEY[:-2]) + "%51%"[:2], id="an escape cut short"),
        pytest.param("%73%6b-proj", id="escapes of a beginning"),
        pytest.param("sk-proj_", id="what all keys begin with"),
    ],
)
def test_a_near_miss_is_left_alone(text):
    assert redactor(KEY).text(text) is text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LONG[:-1], id="all but the last character"),
        pytest.param(LONG[1:], id="all but the first character"),
        pytest.param(LONG[:24], id="cut to 24 characters"),
        pytest.param(LONG[8:20], id="a window alone"),
        pytest.param(LONG[-12:], id="the last characters"),
        pytest.param(LONG[:-1] + "X", id="another last character"),
        pytest.param("x" + LONG[3:], id="another beginning"),
        pytest.param(LONG[:20].upper(), id="a part in capitals"),
        pytest.param(in_base64(b"", LONG[:-2]), id="base64 of all but the last two characters"),
        pytest.param(in_base64(b"x", LONG[10:22], b"y"), id="base64 of a window"),
        pytest.param(LONG.encode().hex()[:-1], id="hex without the last digit"),
        pytest.param(LONG.encode().hex()[1:], id="hex without the first digit"),
        pytest.param("".join(f"%{ord(c):02x}" for c in LONG[:-2]) + "%5", id="an escape cut short"),
    ],
)
def test_a_long_part_of_a_secret_is_found_with_the_word_around_it(text):
    redacted = redactor(LONG).text(f"say {text} again")
    assert re.fullmatch(r"say (%73%6b)?[\w%/+]{0,40}<0>[\w/+=%]{0,6} again", redacted)
    for at in range(8, len(LONG) - 8):
        assert LONG[at : at + 8].lower() not in redacted.lower()


@pytest.mark.parametrize("known", range(12, 22))
def test_what_is_put_in_place_of_a_part_does_not_tell_how_long_it_is(known):
    """Somebody who knows a window is not told whether the next guess is right."""
    redact = redactor(LONG)
    right, wrong = LONG[: 8 + known] + "!", LONG[: 7 + known] + "!!"
    assert redact.text(f"a {right}") == "a <0>!"
    assert known == 12 or redact.text(f"a {wrong}") == "a <0>!!"
    for junk in ("", "a", "abc-0", "x" * 50):
        assert redact.text(f"a {LONG[:20]}{junk} b") == "a <0> b"
        assert redact.text(f"a {junk}{LONG[9:28]}{junk} b") == "a <0> b"


def soft_breaks(text):
    return "=\r\n".join(text[at : at + 7] for at in range(0, len(text), 7))


WIDE = [LONG.encode(charset).decode("latin-1") for charset in ("utf-16-le", "utf-16-be", "utf-32-le")]


@pytest.mark.parametrize(
    "text",
    [
        *(pytest.param(json.dumps(text), id=f"a wide text in JSON {place}") for place, text in enumerate(WIDE)),
        *(pytest.param(quote(text, safe=""), id=f"a wide text in percent {place}") for place, text in enumerate(WIDE)),
        pytest.param("".join(f"&#{ord(sign)};" for sign in WIDE[0]), id="a wide text in decimal references"),
        pytest.param("".join(f"&#x{ord(sign):02x};" for sign in WIDE[0]), id="a wide text in hexadecimal references"),
        pytest.param("".join(rf"\{ord(sign):03o}" for sign in WIDE[1]), id="a wide text in octal"),
        pytest.param("".join(f"={ord(sign):02X}" for sign in WIDE[1]), id="a wide text in quoted-printable"),
        pytest.param(soft_breaks(json.dumps(LONG).replace("-", r"\u002d")), id="JSON in soft breaks"),
        pytest.param(soft_breaks("".join(rf"\x{ord(sign):02x}" for sign in LONG)), id="hex escapes in soft breaks"),
        pytest.param(soft_breaks("".join(f"&#{ord(sign)};" for sign in LONG)), id="references in soft breaks"),
        pytest.param(soft_breaks("".join(f"={ord(sign):02X}" for sign in LONG)), id="quoted-printable twice"),
        pytest.param("".join(f"={ord(sign):02X}" for sign in quote(LONG, safe="")), id="quoted-printable of percent"),
        pytest.param(json.dumps(soft_breaks(LONG)), id="soft breaks in JSON"),
        pytest.param(in_base64(b"", soft_breaks(LONG)), id="soft breaks in base64"),
        pytest.param(in_base64(b"", LONG.encode().hex("\n")), id="a byte a line in base64"),
        pytest.param(json.dumps(LONG.encode().hex("\n")), id="a byte a line in JSON"),
        pytest.param(
            json.dumps({"dump": LONG.encode().hex(" ", 1).upper().replace(" ", "\r\n")}), id="the same, CR LF"
        ),
    ],
)
def test_a_guest_that_has_one_way_of_writing_put_into_another_does_not_get_the_secret(text):
    assert "<0>" in redactor(LONG).text(f"say {text} again")


@pytest.mark.parametrize(
    "kind",
    ["sk-", "sk-ant-api03-", "ghp_", "github_pat_", "xoxb-", "AKIA", "SG.", "Bearer sk-", "eyJhbGciOiJIUzI1NiJ9."],
)
def test_the_public_beginning_of_a_secret_is_not_part_of_a_window(kind):
    value = kind + "Ab9xYz0123QwErTyPq"
    for known in range(12):
        text = value[: len(kind) + known]
        assert redactor(value).text(text) is text
    assert redactor(value).text(value[: len(kind) + 12]) != value[: len(kind) + 12]


def test_the_part_that_all_keys_of_openai_have_in_their_middle_does_not_help_to_guess():
    value = "sk-proj-aB3dE5gH7jK9mN1pQ" + "T3BlbkFJ" + "zY8xW6vU4tS2rQ0pO"
    redact = redactor(value)
    at = value.index("T3BlbkFJ")
    for start in range(at - 6, at + 6):
        text = value[start : start + 12]
        assert redact.text(text) is text
    assert redact.text(f"say {value}") == "say <0>"
    assert redact.text(f"say {value[12:24]}, {value[-13:-1]}") == "say <0>, <0>"


def test_a_row_of_zeros_in_a_secret_is_not_looked_for():
    redact = redactor("00000000000000000000-4f9a8c7e1b2d")
    for text in ("0" * 40, "000000000000-", "0000000000-4f"):
        assert redact.text(text) is text


def claims(**given):
    return base64.urlsafe_b64encode(json.dumps(given).encode()).rstrip(b"=").decode()


RANDOM = "q7Zk2VwXm9Rt4LbYc8HdNf3JgPs6TuKv"
STRUCTURED = {
    "a token of three parts": (claims(alg="HS256", typ="JWT") + "." + claims(iss="supabase", ref="abcdefgh") + ".", ""),
    "a bot's token": ("7283910465:", ""),
    "a token that begins with an account's number": (
        in_base64(b"", "1029384756102938475").rstrip("=") + ".GhIjKl.",
        "",
    ),
    "a webhook": ("https://hooks.example.com/services/T0123ABCD/B0123ABCD/", ""),
    "a database": ("postgres://admin:", "@db.example.com/main"),
    "a connection string": ("DefaultEndpointsProtocol=https;AccountName=mystore1;AccountKey=", "==;Suffix=example.net"),
    "a service account": ('{"type":"service_account","project_id":"x-1","private_key":"', '"}'),
    "a private key": ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ", ""),
    "a user's password": ("service-account-01:", ""),
    "a bot's token with two numbers": ("xoxb-2837465910-3847561029384-", ""),
    "a key with its account": ("sk_live_51HabcdEFGHijklmN", ""),
    "cookies": ("sessionid_prod=abcdefghij; token=", ""),
}


@pytest.mark.parametrize("kind", STRUCTURED)
def test_a_guest_that_knows_how_a_secret_of_several_parts_begins_cannot_read_on_from_there(kind):
    """It knows all but the random part, and has each next character echoed until one is replaced."""
    before, behind = STRUCTURED[kind]
    redact = redactor(before + RANDOM + behind)
    for length in range(1, 12):  # characters of the random part, with what is known before and behind
        guess = f"<{before}{RANDOM[:length]}>"
        assert redact.text(guess) == guess
        guess = f"<{RANDOM[-length:]}{behind}>"
        assert redact.text(guess) == guess
    assert redact.text(f"say {before}{RANDOM}{behind}, {RANDOM}") == "say <0>, <0>"
    assert RANDOM[4:20] not in redact.text(f"say {RANDOM[4:20]}")


def test_a_guest_that_knows_a_user_s_name_cannot_read_on_in_the_base64_of_a_password():
    value = in_base64(b"service-account:", RANDOM)
    known = in_base64(b"", "service-account:")[:20]
    for length in range(12):
        guess = f"<{value[: len(known) + length]}>"
        assert redactor(value).text(guess) == guess
    assert redactor(value).text(f"say {value}") == "say <0>"


def test_a_short_rest_behind_a_known_beginning_is_no_window_together_with_it():
    value = "sk-proj-a7Xk9Qm2Zr"
    for length in range(1, len(value)):
        assert redactor(value).text(value[:length]) == value[:length]
    assert redactor(value).text(f"say {value}") == "say <0>"


@pytest.mark.parametrize(
    ("value", "window"),
    [
        pytest.param("4111111111111111-9876543210", 15, id="digits"),
        pytest.param("correct-horse-battery-staple-of-the-moon", 24, id="words"),
        pytest.param("00000000000000000000-4f9a8c7e1b2d", 12, id="a row of zeros is no window"),
    ],
)
def test_a_secret_that_is_easier_to_guess_has_longer_windows(value, window):
    redact = redactor(value)
    assert redact.text(f"say {value[:-1]}") == "say <0>"
    for length in range(1, window):
        for start in range(len(value) - length):
            text = value[start : start + length]
            assert redact.text(text) is text


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(lambda v: v, id="plain"),
        pytest.param(lambda v: in_base64(b"", v), id="base64"),
        pytest.param(lambda v: v.encode().hex(), id="hex"),
        pytest.param(lambda v: "".join(f"%{byte:02X}" for byte in v.encode()), id="percent-encoded"),
        pytest.param(lambda v: "".join(rf"\u{ord(c):04x}" for c in v), id="JSON escapes"),
    ],
)
@settings(deadline=None)
@given(
    value=st.text("abcdefxyz0123456789", min_size=SHORTEST_RECODED, max_size=12),
    place=st.integers(0, 39),
    other=st.sampled_from("abcdefxyz0123456789"),
)
def test_any_short_secret_with_one_character_changed_is_left_alone(encode, value, place, other):
    place %= len(value)
    assume(value[place] != other)
    missed = f"<< {encode(value[:place] + other + value[place + 1 :])} >>"
    assume(value not in missed and value[::-1] not in missed)
    assert redactor(value).text(missed) is missed


@settings(deadline=None)
@given(text=st.text())
def test_a_text_without_the_secret_stays_as_it_is(text):
    assert redactor(KEY).text(text) is text


def test_of_a_short_secret_only_plain_and_escaped_forms_are_looked_for():
    redact = redactor("hunter2")
    assert redact.text(r"hunter2 \u0068unter2 %68unter2") == "<0> <0> <0>"
    assert redact.data(in_base64(b"", "hunter2").encode()) == in_base64(b"", "hunter2").encode()
    assert redact.data(b"hunter2".hex().encode()) == b"hunter2".hex().encode()


def test_without_secrets_nothing_is_done():
    data = b'{"a": "\\u0041%41&amp;"}'
    assert Redactor({}).data(data) is data
    assert Redactor({}).stream().feed(data) == data


# --- several secrets, several matches ---------------------------------------------------------------------------------


def test_of_a_secret_that_begins_with_another_the_longer_is_shown():
    assert redactor("token-a", "token-abc").text("token-abc token-ab") == "<1> <0>b"
    assert redactor("token-abc", "token-a").text("token-abc token-ab") == "<0> <1>b"


def test_of_overlapping_secrets_no_fragment_is_left():
    assert redactor("abc-XYZ", "XYZ-def").text("abc-XYZ-def") == "<0>"


def test_secrets_side_by_side_are_each_shown():
    assert redactor(KEY, "other-secret").text(KEY + KEY + "other-secret") == "<0><0><1>"


def test_what_was_put_in_is_not_looked_at_again():
    redact = Redactor({"[beta]": SecretValue("alpha"), "[gamma]": SecretValue("beta")})
    assert redact.text("alpha beta") == "[beta] [gamma]"


def test_a_redactor_for_a_run_shows_that_run_s_placeholders():
    first = Redactor({"OPENAI_API_KEY": SecretValue(KEY), "OTHER": SecretValue("other-secret")})
    second = first.renamed({"OPENAI_API_KEY": SHOWN, "OTHER": "<other>", "UNKNOWN": "x"})
    assert second.text(f"{KEY} other-secret") == f"{SHOWN} <other>"
    assert first.text(KEY) == "OPENAI_API_KEY"
    with pytest.raises(KeyError):
        first.renamed({"OTHER": "<other>"})


@pytest.mark.parametrize("replacement", ['"', "\\", "\n", "é"])
def test_a_replacement_that_json_would_escape_is_a_mistake(replacement):
    with pytest.raises(ValueError, match="JSON would have to escape"):
        Redactor({replacement: SecretValue(KEY)})


# --- JSON -------------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=12,
)
key_like = st.text("abcxyzABC0189-_./+=:~%& é🔑", min_size=1, max_size=24).map(lambda text: f"sk{text.strip()}")


@settings(deadline=None)
@given(value=key_like, around=st.tuples(st.text(max_size=5), st.text(max_size=5)), rest=json_values, data=st.data())
def test_json_is_still_json_with_the_secret_gone(value, around, rest, data):
    text, ascii_only = value.join(around), data.draw(st.booleans())
    for _ in range(data.draw(st.integers(0, 2), label="JSON in JSON")):
        text = json.dumps({"again": text}, ensure_ascii=ascii_only)
    document = json.dumps({"rest": rest, text: [text]}, ensure_ascii=ascii_only)
    redacted = json.loads(redactor(value).text(document))
    assert value not in json.dumps(redacted, ensure_ascii=False)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_backslashes_before_a_secret_go_with_it(depth):
    text = "\\" * depth + "nk-abcdef"
    assert json.loads(redactor("nk-abcdef").text(json.dumps([text, "\nk-abcdef"]))) == ["<0>", "<0>"]


def test_json_values_are_redacted_at_any_depth_in_strings_keys_and_numbers():
    redact = redactor(KEY, "1234567890")
    value = {KEY: [1, None, True, f"a {KEY}", {"n": 1234567890, "f": 1.5}], "1234567890": ()}
    assert redact.json(value) == {"<0>": [1, None, True, "a <0>", {"n": "<1>", "f": 1.5}], "<1>": []}
    assert value[KEY][3] == f"a {KEY}", "the original is not touched"


def test_a_text_that_is_known_to_hold_none_hides_no_other():
    redact = redactor(KEY)
    assert redact.json(["GET", {"url": "https://api.test"}]) == ["GET", {"url": "https://api.test"}]
    assert redact.json(["GET", KEY, {"url": f"https://api.test/{KEY}"}]) == [
        "GET",
        "<0>",
        {"url": "https://api.test/<0>"},
    ]


def test_a_text_whose_neighbour_hides_it_is_found_at_once_and_later():
    poison = base64.b64encode(b"aaaaaaaaaaa\\").decode()
    twice = base64.b64encode(base64.b64encode(b"hunter2hunter2")).decode()
    redact = redactor("hunter2hunter2")
    assert twice not in redact.json([poison, twice])
    assert twice not in redact.json([twice])


def test_a_text_that_holds_none_of_one_origin_s_secrets_may_hold_another_s():
    redact = redactor("alpha-1234", "beta-56789")
    assert redact.limited({"<0>"}).json(["beta-56789"]) == ["beta-56789"]
    assert redact.json(["beta-56789"]) == ["<1>"]


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from([KEY, KEY[:9], KEY[9:], quote(KEY)])), max_size=6))
def test_what_was_looked_at_before_is_redacted_as_at_first(texts):
    known = redactor(KEY)
    for text in texts:
        known.json(text)
    assert known.json(texts) == redactor(KEY).json(texts)


def test_the_texts_that_are_known_to_hold_none_are_short_and_few():
    redact = redactor(KEY)
    for number in range(0, 10 * redaction._MOST_CLEAN, 7):
        redact.json([str(number + place) for place in range(7)])
    assert 0 < len(redact._scanner.clean) <= redaction._MOST_CLEAN + 7
    known = {*redact._scanner.clean}
    redact.json([f"{number} and more" for number in range(1_000)])
    redact.json("x" * 100_000)
    assert redact._scanner.clean == known


def test_nesting_beyond_the_recursion_limit_is_redacted():
    value = KEY
    for _ in range(100_000):
        value = [value]
    value = redactor(KEY).json(value)
    while isinstance(value, list):
        (value,) = value
    assert value == "<0>"


def test_lone_surrogates_survive():
    assert redactor(KEY).text(f"\ud800{KEY}\udfff") == "\ud800<0>\udfff"


TRICKY = ["ab", "abab", "aab", "%a", "a%41", "a\\", "&a", "b-"]
FRAGMENTS = [
    "a",
    "b",
    "ab",
    "%",
    "25",
    "61",
    "%61",
    "%2561",
    "\\",
    "\\\\",
    "\\u0061",
    "u0062",
    "&",
    "&amp;",
    "&#97;",
    "#98;",
    "-",
    "\\-",
    "%41",
    "\\u0026",
    " ",
]


# --- streams ----------------------------------------------------------------------------------------------------------


def in_chunks(redact: Redactor, data: bytes, cuts: list[int]) -> bytes:
    stream = redact.stream()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(stream.feed(data[start:end]) for start, end in pairwise(edges)) + stream.flush()


@settings(deadline=None, max_examples=300)
@given(
    values=st.lists(st.sampled_from(TRICKY), min_size=1, max_size=3, unique=True),
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=30),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_chunks_make_what_the_whole_makes(values, fragments, cuts):
    redact, data = redactor(*values), "".join(fragments).encode()
    assert in_chunks(redact, data, cuts) == redact.data(data)


@pytest.mark.parametrize("encode", ENCODINGS)
def test_a_secret_cut_anywhere_is_found(encode):
    redact = redactor(KEY, "sk-proj_Ab")
    data = f"data: {encode(KEY)}\n\n".encode()
    whole = redact.data(data)
    for cut in range(len(data) + 1):
        assert in_chunks(redact, data, [cut]) == whole
    assert in_chunks(redact, data, list(range(len(data)))) == whole


@pytest.mark.parametrize("encode", ENCODINGS)
@settings(deadline=None, max_examples=25)
@given(
    value=secret_texts,
    around=st.tuples(st.binary(max_size=20), st.binary(max_size=20)),
    cuts=st.lists(st.integers(0, 500), max_size=8),
)
def test_every_encoding_of_every_secret_is_found_whatever_the_chunks(encode, value, around, cuts):
    before, after = around
    redact, data = redactor(value), before + b" " + encode(value).encode() + b" " + after
    redacted = in_chunks(redact, data, cuts)
    assert redacted == redact.data(data)
    assert b"<0>" in redacted
    assert redact.data(redacted) == redacted


def test_a_secret_across_the_slices_of_a_long_text_is_found():
    for shift in range(len(KEY) + 1):
        data = b"x" * (redaction._PIECE - shift) + KEY.encode() + b"y" * redaction._PIECE
        assert redactor(KEY).data(data) == data.replace(KEY.encode(), b"<0>")


@pytest.mark.parametrize(
    ("chunk", "held"),
    [
        pytest.param('data: {"delta": "sk"}\n\n', "", id="an event that ends in an empty line passes at once"),
        pytest.param('data: {"delta": "sk"}\r\n', "", id="so does a line"),
        pytest.param("a text of several words", "words", id="of a text, the last word waits"),
        pytest.param("a text with <tags> and", "and", id="whatever it is"),
        pytest.param("<sk-proj", "sk-proj", id="a beginning of the secret waits"),
        pytest.param("<ab-cdef", "ab-cdef", id="and so does anything else"),
        pytest.param("50%", "50%", id="the beginning of an escape waits"),
        pytest.param('"' + "A" * 64 + "\r\n", "A" * 64 + "\r\n", id="a wrapped line of base64 waits"),
        pytest.param('"' + "A" * 64 + "\n" + "A" * 8, "A" * 64 + "\n" + "A" * 8, id="with the line behind it"),
        pytest.param('"' + "A" * 64 + "\n\n", "", id="until an empty line"),
        pytest.param("A" * 8 + "\n" + "A" * 8 + "\n", "", id="short lines do not wait"),
        pytest.param("as =41=\r\n", "=41=\r\n", id="a soft line break waits"),
        pytest.param("bytes: 73 6b 2d ", "73 6b 2d ", id="a dump of bytes waits"),
        pytest.param("[ 0x41, 0x42, ", "0x41, 0x42, ", id="in any notation"),
        pytest.param("U+0041 U+0042 ", "U+0041 U+0042 ", id="of code points too"),
    ],
)
def test_the_open_end_of_a_text_is_held_back_whatever_the_secret_is(chunk, held):
    for value in (KEY, "0123456789abcdef0123456789abcdef"):
        stream = redactor(value).stream()
        assert stream.feed(chunk.encode()) == chunk.removesuffix(held).encode()
        assert stream.flush() == held.encode()


def test_a_secret_with_spaces_or_quotes_is_found_across_pieces():
    value = 'correct "horse" battery <staple>'
    for cut in range(len(value)):
        assert in_chunks(redactor(value), f"> {value}\n".encode(), [cut + 2]) == b"> <0>\n"


def test_of_a_run_without_end_a_fixed_length_is_held_back():
    for value in (KEY, "sk-0123456789"):
        stream = redactor(value).stream()
        longest = stream._scanner.longest
        out = [len(stream.feed(b"x" * 1000)) for _ in range(60)]
        assert sum(out) >= 60_000 - 2 * longest
        assert sum(out) + len(stream.flush()) == 60_000


def test_a_secret_in_a_run_without_end_is_found_wherever_the_pieces_end():
    redact = redactor(KEY)
    for before in range(0, 20_000, 1_009):
        data = b"x" * before + KEY.encode() + b"y" * 10_000
        stream = redact.stream()
        shown = b"".join(stream.feed(data[at : at + 997]) for at in range(0, len(data), 997)) + stream.flush()
        assert shown == data.replace(KEY.encode(), b"<0>")


def test_after_the_end_a_stream_is_as_new():
    stream = redactor("token-a", "token-abc").stream()
    assert stream.feed(b"x token-ab") == b"x "
    assert stream.flush() == b"<0>b"
    assert stream.feed(b"token-abc. ") == b"<1>. "


# --- attacks on the cost ----------------------------------------------------------------------------------------------

REPEATED = "a" * 40 + "b"


def test_a_body_of_nothing_but_placeholders_does_not_become_a_hundred_times_as_long():
    placeholder = new_placeholder()
    substitution = Substitution({placeholder: SecretValue("v" * 4_000)})
    body, used = substitution.apply_bytes(placeholder.encode() * 5_000)
    assert used == {placeholder}
    assert len(body) == 1_000 * 4_000 + 4_000 * len(placeholder)


def test_whoever_waits_for_a_large_redaction_is_asked_and_may_end_it():
    class Over(Exception):
        pass

    asked = []

    def check():
        asked.append(1)
        if len(asked) == 3:
            raise Over

    with pytest.raises(Over):
        Redactor({"shown": SecretValue("sk-Test-0123456789")}).text("%41" * 200_000, check)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("Schlüssel-äöü-ÿ-0815".encode("latin-1"), id="in Latin-1, as a header was sent"),
        pytest.param("Schlüssel-äöü-ÿ-0815".encode().decode("latin-1").encode(), id="UTF-8 that was taken for Latin-1"),
        pytest.param(quote("Schlüssel-äöü-ÿ-0815", encoding="latin-1").encode(), id="Latin-1 in percent signs"),
        pytest.param(quote(quote("Schlüssel-äöü-ÿ-0815", encoding="latin-1")).encode(), id="and these escaped again"),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 100], ids=["byte by byte", "in pieces", "at once"])
def test_a_secret_beyond_ascii_is_found_in_the_encoding_of_headers(sent, cut):
    stream = Redactor({"shown": SecretValue("Schlüssel-äöü-ÿ-0815")}).stream()
    data = b"<" + sent + b">"
    assert b"".join(stream.feed(data[at : at + cut]) for at in range(0, len(data), cut)) + stream.flush() == b"<shown>"


def test_a_secret_is_found_in_the_name_of_a_header():
    assert redactor(KEY).text(f"x-{KEY.lower()}-y") == "x-<0>-y"
    assert redactor("Aa").text("aa") == "aa", "two characters may be anything"


@pytest.mark.parametrize(
    "of", ["\n", "\r\n", " ", "-\n", "=", "=\r\n", "\n=", "--", "%", ",", ";", "A\n", "\nAB\n", "\nABC\n"]
)
@pytest.mark.parametrize("size", [1, 30, 100, 10_000])
def test_a_text_of_hardly_more_than_what_stands_between_digits_is_left_as_it_is(of, size):
    text = of * size
    redactor = Redactor({SHOWN: SecretValue(LONG)})
    assert redactor.text(text) == text
    assert redactor.data(text.encode()) == text.encode()
    stream = redactor.stream()
    assert stream.feed(text.encode(), lambda: None) + stream.flush() == text.encode()
