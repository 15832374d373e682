"""The challenges of a registry, and docker's credentials."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from host.errors import InputError
from host.oci import auth
from host.oci.auth import Challenge, Credential, DockerCredentials, NoCredentials, parse_challenges
from host.secrets.value import SecretValue

# challenges

_BEARER = {"realm": "https://auth.test/token", "service": "registry.test", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            ['Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push"'],
            [("bearer", _BEARER)],
            id="what Docker Hub sends",
        ),
        pytest.param(['Basic realm="Registry Realm"'], [("basic", {"realm": "Registry Realm"})], id="basic"),
        pytest.param(["Basic"], [("basic", {})], id="a scheme alone"),
        pytest.param(["BASIC Realm=x"], [("basic", {"realm": "x"})], id="whatever the case, quoted or not"),
        pytest.param(
            ['Basic realm="a", Bearer realm="https://b.test"'],
            [("basic", {"realm": "a"}), ("bearer", {"realm": "https://b.test"})],
            id="two in one value",
        ),
        pytest.param(
            ["Negotiate, Basic realm=x"],
            [("negotiate", {}), ("basic", {"realm": "x"})],
            id="one without parameters first",
        ),
        pytest.param(
            ["Basic realm=x", "Bearer realm=y"],
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
            id="two values",
        ),
        pytest.param(
            [r'Bearer realm="a\"b, c=\\d"'], [("bearer", {"realm": 'a"b, c=\\d'})], id="escapes and commas in quotes"
        ),
        pytest.param(["Bearer realm=a, realm=b"], [("bearer", {"realm": "a"})], id="the first of two realms"),
        pytest.param(['Bearer realm="never closed'], [("bearer", {})], id="a quote that is not closed"),
        pytest.param(["", "===", "\x00"], [], id="nothing of the kind"),
        pytest.param([], [], id="no field"),
    ],
)
def test_challenges_are_read(fields, expected):
    assert parse_challenges(fields) == tuple(Challenge(*one) for one in expected)


def test_a_field_without_end_is_not_read_to_its_end():
    found = parse_challenges(['Basic realm="' + '\\"' * 1_000_000])
    assert [one.scheme for one in found] == ["basic"]
    assert len(parse_challenges(["a," * 1_000_000])) < 5_000


# docker's credentials

SECRET = "s3cret-Pass-0123456789"
AUTH = b64encode(f"alice:{SECRET}".encode()).decode()


def _docker(folder: Path, **settings) -> DockerCredentials:
    (folder / "config.json").write_text(json.dumps(settings))
    return DockerCredentials(folder / "config.json")


def _spoken(found: Credential | None):
    return found and (found.username, found.secret.reveal(), found.is_identity_token)


@pytest.mark.parametrize(
    ("auths", "expected"),
    [
        pytest.param({"r.test": {"auth": AUTH}}, ("alice", SECRET, False), id="by name"),
        pytest.param({"https://r.test": {"auth": AUTH}}, ("alice", SECRET, False), id="by URL"),
        pytest.param({"https://r.test/v1/": {"auth": AUTH}}, ("alice", SECRET, False), id="by URL of an API"),
        pytest.param(
            {"r.test": {"username": "alice", "password": SECRET}}, ("alice", SECRET, False), id="in two fields"
        ),
        pytest.param({"r.test": {"auth": AUTH, "identitytoken": "tok"}}, ("", "tok", True), id="an identity token"),
        pytest.param({"r.test": {}}, None, id="an empty entry, as a store leaves it"),
        pytest.param({"other.test": {"auth": AUTH}}, None, id="another registry's"),
        pytest.param({"test": {"auth": AUTH}}, None, id="a suffix's"),
        pytest.param({"r.test.evil.test": {"auth": AUTH}}, None, id="a longer name's"),
        pytest.param({"r.test:443": {"auth": AUTH}}, None, id="another port's"),
        pytest.param({"r.test/acme": {"auth": AUTH}}, None, id="a path's"),
        pytest.param({}, None, id="nobody's"),
    ],
)
def test_credentials_are_those_of_the_registry(tmp_path, auths, expected):
    assert _spoken(_docker(tmp_path, auths=auths).find("r.test")) == expected


def test_docker_hub_is_filed_under_its_old_url(tmp_path):
    docker = _docker(tmp_path, auths={"https://index.docker.io/v1/": {"auth": AUTH}})
    assert _spoken(docker.find("docker.io")) == ("alice", SECRET, False)


def test_without_a_configuration_there_are_none(tmp_path):
    assert DockerCredentials(tmp_path / "none.json").find("r.test") is None
    assert NoCredentials().find("r.test") is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("not JSON " + SECRET, id="no JSON"),
        pytest.param(json.dumps({"auths": {"r.test": {"auth": "!!" + AUTH}}}), id="no base64"),
        pytest.param(json.dumps({"auths": {"r.test": {"auth": AUTH, "identitytoken": [SECRET]}}}), id="no text"),
        pytest.param(json.dumps({"auths": {"r.test": {"password": SECRET + "\r\nX: y"}}}), id="a line break"),
        pytest.param(json.dumps({"credsStore": "../../" + SECRET}), id="a helper that climbs"),
        pytest.param(json.dumps({"credHelpers": {"r.test": [SECRET]}}), id="a helper that is no name"),
    ],
)
def test_a_malformed_configuration_is_named_and_not_quoted(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as caught:
        DockerCredentials(tmp_path / "config.json").find("r.test")
    assert "config.json" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert AUTH not in str(caught.value)


def test_a_configuration_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        DockerCredentials(tmp_path).find("r.test")


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Puts a script on the path as `docker-credential-test`. Returns the file in which it records its input."""

    def install(script: str) -> Path:
        program = tmp_path / "docker-credential-test"
        program.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {tmp_path}/asked\nenv > {tmp_path}/env\n{script}\n')
        program.chmod(0o755)
        return tmp_path / "asked"

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return install


def _answering(username: str) -> str:
    return f"""echo '{{"ServerURL":"r.test","Username":"{username}","Secret":"{SECRET}"}}'"""


def test_a_helper_is_asked_for_the_registry_alone(tmp_path, helper):
    asked = helper(_answering("bob"))
    docker = _docker(tmp_path, credHelpers={"r.test": "test"}, auths={"r.test": {"auth": AUTH}})
    assert _spoken(docker.find("r.test")) == ("bob", SECRET, False)
    assert asked.read_text() == "get r.test\n"
    assert docker.find("other.test") is None
    assert asked.read_text() == "get r.test\n"


def test_the_store_is_asked_for_every_registry(tmp_path, helper):
    asked = helper(_answering("bob"))
    assert _spoken(_docker(tmp_path, credsStore="test").find("docker.io")) == ("bob", SECRET, False)
    assert asked.read_text() == "get https://index.docker.io/v1/\n"


def test_a_helper_can_have_an_identity_token(tmp_path, helper):
    helper(_answering("<token>"))
    assert _spoken(_docker(tmp_path, credsStore="test").find("r.test")) == ("<token>", SECRET, True)


def test_where_the_helper_has_none_the_file_is_read(tmp_path, helper):
    helper("echo credentials not found in native keychain; exit 1")
    docker = _docker(tmp_path, credsStore="test", auths={"r.test": {"auth": AUTH}})
    assert _spoken(docker.find("r.test")) == ("alice", SECRET, False)


def test_a_helper_gets_nothing_of_our_environment(tmp_path, helper, monkeypatch):
    monkeypatch.setenv("HOST_MASTER_KEY", "leaked")
    helper(_answering("bob"))
    _docker(tmp_path, credsStore="test").find("r.test")
    assert "leaked" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("said", ["no JSON", '{"Username": 1, "Secret": []}', '["a"]'])
def test_a_helper_that_breaks_the_protocol_is_named_and_not_quoted(tmp_path, helper, said):
    helper(f"echo '{said}'")
    with pytest.raises(InputError, match="docker-credential-test did not answer") as caught:
        _docker(tmp_path, credsStore="test").find("r.test")
    assert said not in str(caught.value)


def test_a_helper_that_never_answers_is_named(tmp_path, helper, monkeypatch):
    monkeypatch.setattr(auth, "_HELPER_TIMEOUT_S", 0.2)
    helper("exec sleep 60")
    with pytest.raises(InputError, match="docker-credential-test did not answer in"):
        _docker(tmp_path, credsStore="test").find("r.test")


def test_a_helper_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(InputError, match=r"docker-credential-nowhere.* is not installed"):
        _docker(tmp_path, credsStore="nowhere").find("r.test")


def test_a_credential_does_not_show():
    credential = Credential("alice", SecretValue(SECRET))
    assert repr(credential) == f"{credential}" == "<Credential>"
    assert credential.basic().reveal() == f"Basic {AUTH}"
