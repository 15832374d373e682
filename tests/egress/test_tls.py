"""Certificate authorities of one's own, and certificates of the client: per origin, read once, shown to nobody else."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from host.egress import EgressError, TlsByOrigin, TlsFiles
from host.errors import PolicyError
from host.policy.tls import TlsRule
from host.policy.urls import Origin
from host.secrets.value import SecretValue

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def reached(serve, egress, loopback, clock, ask):
    """reached(tls, context, host): the status of a GET with `tls` as the policy's; the certificates that the server saw
    come after it."""

    def get(tls, context, host="api.test"):
        seen = []

        def behave(peer):
            seen.append(peer.socket.getpeercert())
            if peer.request():
                peer.send(OK)

        server = serve(behave, tls=context)
        url = server.url(host=host)
        by_origin = TlsByOrigin({Origin.parse(url.rstrip("/")): tls}) if isinstance(tls, TlsFiles) else tls
        answer = ask(url, using=egress().client(loopback, by_origin))
        assert answer.read_all(clock) == b"ok"
        return answer.status, seen

    return get


def files(certificates, **rule):
    return TlsFiles.read(TlsRule(**{name: certificates.file(file) for name, file in rule.items()}), "")


def test_an_authority_of_the_policy_counts_for_its_origin(reached, certificates):
    status, _ = reached(files(certificates, ca_file="ca.pem"), certificates.server("api.test"))
    assert status == 200


def test_an_authority_for_all_origins_counts_where_none_is_named(reached, certificates):
    default = TlsByOrigin({}, files(certificates, ca_file="ca.pem"))
    assert reached(default, certificates.server("api.test"))[0] == 200


def test_without_it_the_error_leads_to_the_field(reached, certificates):
    with pytest.raises(EgressError) as caught:
        reached(TlsByOrigin(), certificates.server("api.test"))
    assert "ca_file" in caught.value.message


def test_another_authority_takes_the_place_of_all_others(reached, certificates):
    with pytest.raises(EgressError) as caught:
        reached(files(certificates, ca_file="other-ca.pem"), certificates.server("api.test"))
    assert "not acceptable" in caught.value.message


def test_an_authority_of_one_origin_does_not_count_at_another(reached, certificates):
    elsewhere = TlsByOrigin({Origin.parse("https://elsewhere.test"): files(certificates, ca_file="ca.pem")})
    with pytest.raises(EgressError):
        reached(elsewhere, certificates.server("api.test"))


@pytest.mark.parametrize("name", ["other.test", "expired"])
def test_an_authority_of_the_policy_still_vouches_for_names_and_times_only(reached, certificates, name):
    with pytest.raises(EgressError) as caught:
        reached(files(certificates, ca_file="ca.pem"), certificates.server(name))
    assert "ca_file" not in caught.value.message


def test_a_certificate_of_the_client_is_shown_to_a_server_that_asks(reached, certificates):
    tls = files(certificates, ca_file="ca.pem", client_certificate="client.pem", client_key="client.key")
    status, [seen] = reached(tls, certificates.server("api.test", asks_for_certificates=True))
    assert (status, seen["subject"]) == (200, ((("commonName", "client.test"),),))


def test_a_certificate_of_the_client_is_shown_at_no_other_origin(reached, certificates):
    tls = files(certificates, ca_file="ca.pem", client_certificate="client.pem", client_key="client.key")
    elsewhere = TlsByOrigin(
        {Origin.parse("https://elsewhere.test"): tls}, default=files(certificates, ca_file="ca.pem")
    )
    with pytest.raises(EgressError) as caught:
        reached(elsewhere, certificates.server("api.test", asks_for_certificates=True))
    assert "client_certificate" in caught.value.message


def test_a_key_that_is_kept_as_a_secret_is_as_good_as_a_file(reached, certificates):
    key = SecretValue(base64.b64encode(Path(certificates.file("client.key")).read_bytes()).decode())
    rule = TlsRule(
        ca_file=certificates.file("ca.pem"),
        client_certificate=certificates.file("client.pem"),
        client_key="secret:CLIENT_KEY",
    )
    tls = TlsFiles.read(rule, "", key)
    assert reached(tls, certificates.server("api.test", asks_for_certificates=True))[0] == 200


def test_the_record_has_digests_and_no_key(certificates):
    tls = files(certificates, ca_file="ca.pem", client_certificate="client.pem", client_key="client.key")
    assert set(tls.digests) == {"ca_file", "client_certificate"}
    assert all(one.startswith("sha256:") and len(one) == 71 for one in tls.digests.values())
    assert "PRIVATE" not in repr(tls)
    by_origin = TlsByOrigin({Origin.parse("https://a.test"): tls}, files(certificates, ca_file="ca.pem"))
    assert list(by_origin.digests) == ["*", "https://a.test"]


def test_what_is_loaded_is_what_was_read(certificates, tmp_path):
    """A file that is changed later changes nothing, and its digest in the record stays true."""
    file = tmp_path / "ca.pem"
    file.write_bytes(Path(certificates.file("ca.pem")).read_bytes())
    tls = TlsFiles.read(TlsRule(ca_file=str(file)), "")
    before = tls.digests
    file.write_text("")
    assert tls.context.get_ca_certs()
    assert tls.digests == before


def client(certificates, key):
    return {"client_certificate": certificates.file("client.pem"), "client_key": key}


@pytest.fixture
def made(tmp_path, certificates):
    """made(kind): the path of a file that should not be accepted."""

    def make(kind):
        path = tmp_path / kind
        match kind:
            case "gone":
                pass
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "huge":
                path.write_bytes(b"x" * ((1 << 20) + 1))
            case "readable by others" | "readable by a group":
                path.write_bytes(Path(certificates.file("client.key")).read_bytes())
                path.chmod(0o644 if "others" in kind else 0o640)
            case _:
                path.write_text("" if kind == "empty" else "words")
                path.chmod(0o600)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("gone", "cannot read"),
        ("folder", "is not a file"),
        ("pipe", "is not a file"),
        ("huge", "larger than 1 MiB"),
        ("empty", "no certificate"),
        ("words", "no certificate"),
    ],
)
def test_a_file_without_authorities_is_an_error_that_names_the_field(made, tmp_path, kind, says):
    with pytest.raises(PolicyError) as caught:
        TlsFiles.read(TlsRule(ca_file=made(kind)), "tls.https://a.test.")
    assert caught.value.field == "tls.https://a.test.ca_file"
    assert says in caught.value.message
    assert str(tmp_path) not in str(caught.value)


def test_a_certificate_in_binary_is_answered_with_the_command_that_makes_it_text(certificates):
    with pytest.raises(PolicyError) as caught:
        TlsFiles.read(TlsRule(ca_file=certificates.file("ca.der")), "")
    assert "openssl x509 -inform DER" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("gone", "cannot read"),
        ("pipe", "is not a file"),
        ("readable by others", "others can read"),
        ("readable by a group", "others can read"),
        ("empty", "not the private key"),
        ("words", "not the private key"),
    ],
)
def test_a_key_that_is_none_or_that_others_can_read_is_an_error(made, certificates, tmp_path, kind, says):
    with pytest.raises(PolicyError) as caught:
        TlsFiles.read(TlsRule(**client(certificates, made(kind))), "")
    assert caught.value.field == "client_key"
    assert says in caught.value.message
    assert "PRIVATE KEY" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)  # callers and guests read it


def test_a_key_of_another_certificate_is_an_error(certificates):
    with pytest.raises(PolicyError, match="not the private key"):
        TlsFiles.read(TlsRule(**client(certificates, certificates.file("api.test.key"))), "")


def test_a_key_with_a_password_is_an_error_and_asks_nobody(certificates):
    with pytest.raises(PolicyError, match="it has a password") as caught:
        TlsFiles.read(TlsRule(**client(certificates, certificates.file("locked.key"))), "")
    assert caught.value.field == "client_key"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        pytest.param(None, "no secret CLIENT_KEY is kept", id="not kept"),
        pytest.param(SecretValue("-----BEGIN PRIVATE KEY-----"), "not in base64", id="not in base64"),
        pytest.param(SecretValue("d29yZHM="), "not the private key", id="no key"),
    ],
)
def test_a_kept_key_that_cannot_be_used_is_an_error_without_it(certificates, key, says):
    with pytest.raises(PolicyError, match=says) as caught:
        TlsFiles.read(TlsRule(**client(certificates, "secret:CLIENT_KEY")), "", key)
    assert "d29yZHM" not in str(caught.value)
