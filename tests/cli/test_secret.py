"""`host secret`, as people type it."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring as keyrings
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from tests.cli.conftest import Ran

KEY = "sk-test-0123456789abcdefghijklMNOP"
NAME = "OPENAI_API_KEY"
REF = "c:local.openai"

pytestmark = pytest.mark.usefixtures("state")


class Keyring(KeyringBackend):
    """A keyring whose passwords are files in `folder`, which is locked while there is a file `locked` in it."""

    priority = 5  # type: ignore[assignment]  # as keyring's own backends say it

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _file(self, service: str, user: str) -> Path:
        if (self._folder / "locked").exists():
            raise KeyringLocked
        return self._folder / f"{service}-{user}"

    def get_password(self, service: str, user: str) -> str | None:
        file = self._file(service, user)
        return file.read_text() if file.exists() else None

    def set_password(self, service: str, user: str, password: str) -> None:
        self._file(service, user).write_text(password)

    def delete_password(self, service: str, user: str) -> None:
        self._file(service, user).unlink()


@pytest.fixture
def keyring(tmp_path: Path) -> Iterator[Path]:
    """The folder of the keyring that there is."""
    folder = tmp_path / "keyring-of-test"
    folder.mkdir()
    before = keyrings.get_keyring()
    keyrings.set_keyring(Keyring(folder))
    yield folder
    keyrings.set_keyring(before)


@pytest.fixture
def secret(program: Callable[..., Ran]) -> Callable[..., Ran]:
    """`secret("set", …)` runs `host secret set …`, which is to end well unless `status` says otherwise; what it says
    never has the value."""

    def run(*arguments: str, status: int = 0, **more: Any) -> Ran:
        ran = program("secret", *arguments, **more)
        assert ran.status == status, ran.err
        assert "--reveal" in arguments or KEY not in ran.out + ran.err
        return ran

    return run


@pytest.fixture
def kept(secret: Callable[..., Ran]) -> Callable[..., Ran]:
    secret("set", NAME, stdin=f"{KEY}\n")
    return secret


def records(state: Path) -> list[tuple[str, dict[str, Any]]]:
    connection = sqlite3.connect(state / "state.db")
    try:
        rows = connection.execute("SELECT kind, detail FROM audit ORDER BY seq").fetchall()
    finally:
        connection.close()
    return [(kind, json.loads(detail)) for kind, detail in rows]


class TestSet:
    def test_reads_standard_input_and_says_what_comes_next(self, secret: Any) -> None:
        ran = secret("set", NAME, stdin=f"{KEY}\n")
        assert ran.err == f"{NAME} is kept (sk-…MNOP)\nnext: host secret grant REF {NAME}\n"
        assert ran.out == ""
        assert secret("get", NAME, "--reveal", "--yes").out == f"{KEY}\n"

    def test_as_the_brief_shows_it_works_with_a_warning(self, secret: Any) -> None:
        ran = secret("set", f"{NAME}={KEY}")
        assert f"warning: the shell's history may have the value now; next time: host secret set {NAME}" in ran.err
        assert secret("get", NAME, "--reveal", "--yes").out == f"{KEY}\n"

    def test_a_secret_that_can_be_guessed_is_refused_without_being_shown(self, secret: Any) -> None:
        ran = secret("set", "PIN", stdin="48213907\n", status=2)
        assert "PIN: it is weak" in ran.err
        assert "--weak" in ran.err
        assert "48213907" not in ran.err
        secret("get", "PIN", status=2)
        kept = secret("set", "PIN", "--weak", stdin="48213907\n")
        assert "warning: it is weak" in kept.err
        assert secret("get", "PIN", "--reveal", "--yes").out == "48213907\n"

    @pytest.mark.parametrize("source", ["env:SOME_KEY", "file:key.txt", "keyring:some service/me"])
    def test_takes_it_from_a_source(self, secret: Any, tmp_path: Path, keyring: Path, source: str) -> None:
        (tmp_path / "key.txt").write_text(f"{KEY}\n")
        (keyring / "some service-me").write_text(KEY)
        secret("set", NAME, "--from", source, env={"SOME_KEY": KEY})
        assert secret("get", NAME, "--reveal", "--yes").out == f"{KEY}\n"

    def test_warns_of_a_value_that_looks_wrong_and_keeps_it(self, secret: Any) -> None:
        ran = secret("set", NAME, stdin="0123456789-no-such-key")
        assert f"warning: {NAME} usually begins with sk-; this does not" in ran.err
        assert f"{NAME} is kept" in ran.err

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param([f"{NAME}={KEY}", "--from", "-"], id="a value and a source"),
            pytest.param([KEY], id="a value in the place of a name"),
            pytest.param([f"1NAME={KEY}"], id="a name that is none"),
            pytest.param([NAME, "--from", KEY], id="a value in the place of a source"),
            pytest.param([f"{NAME}= {KEY}"], id="white space around it"),
        ],
    )
    def test_a_mistake_is_told_without_the_value_and_keeps_nothing(self, secret: Any, arguments: list[str]) -> None:
        assert secret("set", *arguments, status=2).err.startswith("error: ")
        assert "no secret is kept" in secret("list").err

    def test_asks_twice_unseen_on_a_terminal(self, terminal: Any, secret: Any) -> None:
        one = terminal("secret", "set", NAME)
        one.expect(f"value of {NAME}: ")
        one.send(f"{KEY}\n")
        one.expect("once more: ")
        one.send("something else\n")
        one.expect("do not match")
        one.expect(f"value of {NAME}: ")
        one.send(f"{KEY}\n")
        one.expect("once more: ")
        one.send(f"{KEY}\n")
        ran = one.finish()
        assert ran.status == 0
        assert f"{NAME} is kept (sk-…MNOP)" in ran.err
        assert KEY not in ran.err
        assert secret("get", NAME, "--reveal", "--yes").out == f"{KEY}\n"

    def test_can_be_left_at_the_question(self, terminal: Any, secret: Any) -> None:
        one = terminal("secret", "set", NAME)
        one.expect(f"value of {NAME}: ")
        one.press("\x03", until="interrupted\r\n")
        assert one.finish().status == 130
        assert "no secret is kept" in secret("list").err


class TestGet:
    def test_shows_enough_to_tell_it_from_another(self, kept: Any) -> None:
        assert kept("get", NAME).out == "sk-…MNOP\n"

    def test_reveals_after_a_question_and_records_it_before(self, kept: Any, terminal: Any, state: Path) -> None:
        one = terminal("secret", "get", NAME, "--reveal", piped=True)
        one.expect(f"Show the value of {NAME}? [y/N]: ")
        one.send("y\n")
        ran = one.finish()
        assert (ran.status, ran.out) == (0, f"{KEY}\n")
        assert records(state)[-1] == ("secret.reveal", {"name": NAME})

    def test_reveals_nothing_after_a_no(self, kept: Any, terminal: Any, state: Path) -> None:
        one = terminal("secret", "get", NAME, "--reveal", piped=True)
        one.expect("[y/N]: ")
        one.send("n\n")
        ran = one.finish()
        assert (ran.status, ran.out) == (2, "")
        assert records(state)[-1][0] == "secret.set"

    def test_reveals_nothing_to_a_program_that_does_not_say_so(self, kept: Any) -> None:
        ran = kept("get", NAME, "--reveal", status=2)
        assert ran.out == ""
        assert "add --yes" in ran.err
        assert KEY not in ran.err

    def test_of_what_is_not_kept_says_where_to_look(self, secret: Any) -> None:
        assert f"host secret which {NAME}" in secret("get", NAME, status=2).err


class TestList:
    def test_shows_what_is_kept_and_who_uses_it(self, kept: Any) -> None:
        kept("grant", REF, NAME)
        kept("grant", f"{REF}:0.1.0", "OTHER")
        head, *rows = kept("list").out.splitlines()
        assert head.split() == ["NAME", "KEPT", "SINCE", "USED", "BY"]
        assert [row.split()[0] for row in rows] == [NAME, "OTHER"]
        assert [row.split()[-1] for row in rows] == [REF, f"{REF}:0.1.0"]
        assert "not kept" in rows[1]

    def test_in_json(self, kept: Any) -> None:
        [one] = json.loads(kept("list", "--json").out)
        assert (one["name"], one["used_by"]) == (NAME, [])
        assert one["kept_since"] > 0
        assert json.loads(kept("list", "--json", env={"HOST_STATE_DIR": "elsewhere"}).out) == []


class TestDelete:
    def test_a_deleted_secret_is_gone_and_its_grants_are_told(self, kept: Any) -> None:
        kept("grant", REF, NAME)
        assert f"it is still granted: host secret revoke {REF} {NAME}" in kept("delete", NAME, "--yes").err
        kept("get", NAME, status=2)
        kept("delete", NAME, status=2)

    def test_all_of_them_only_when_that_was_meant(self, kept: Any) -> None:
        kept("delete", "--all", status=2)
        kept("delete", status=2)
        kept("delete", NAME, "--all", status=2)
        assert NAME in kept("list").out
        kept("delete", "--all", "--yes")
        assert kept("list").out == ""

    def test_all_of_them_is_the_way_out_of_a_store_that_was_changed(self, kept: Any, state: Path) -> None:
        connection = sqlite3.connect(state / "state.db")
        with connection:
            connection.execute("DELETE FROM secrets")
        connection.close()
        ran = kept("get", NAME, status=6)
        assert "were changed in the database" in ran.err
        assert "host secret delete --all" in ran.err
        kept("delete", "--all", "--yes")
        kept("set", NAME, stdin=KEY)
        assert kept("get", NAME).out == "sk-…MNOP\n"


class TestGrant:
    def test_says_for_what_and_what_is_missing(self, secret: Any, state: Path) -> None:
        ran = secret("grant", f"{REF}:0.1.0", NAME)
        assert ran.err.splitlines() == [
            f"{NAME} is granted to {REF}:0.1.0",
            f"note: nothing is registered as {REF}:0.1.0 yet: host register",
            f"next: host secret set {NAME}",
            f"""next: host policy set {REF}:0.1.0 allowed_domains '["DOMAIN"]'""",
        ]
        assert records(state)[0][0] == "secret.granted"

    def test_names_the_domains_that_the_manifest_asks_for(self, kept: Any, program: Any, tool: Any) -> None:
        program(
            "register", tool(id="catalyst:local.openai", secrets=[NAME], domains=["a.example", "{config.base_url}"])
        )
        assert f"""next: host policy set {REF} allowed_domains '["a.example"]'""" in kept("grant", REF, NAME).err

    def test_of_a_reference_in_two_words_is_for_all_versions(self, kept: Any) -> None:
        assert f"{NAME} is granted to {REF}, all versions" in kept("grant", "c", "local.openai", NAME).err

    def test_of_what_the_manifest_does_not_ask_for_says_so(self, kept: Any, program: Any, tool: Any) -> None:
        assert program("register", tool(id="catalyst:local.openai", secrets=["OTHER"])).status == 0
        assert f"note: its manifest does not ask for {NAME}" in kept("grant", REF, NAME).err
        asked = kept("grant", REF, "OTHER").err
        assert "note: " not in asked
        assert "next: host secret set OTHER" in asked

    def test_takes_domains_and_places_and_warns_of_a_reveal(self, kept: Any, state: Path) -> None:
        options = [
            "--allow-domain",
            "api.openai.com",
            "--allow-domain",
            "*.example.com",
            "--in",
            "url",
            "--in",
            "body",
            "--reveal",
        ]
        assert "warning: it sees the value" in kept("grant", REF, NAME, *options).err
        _, detail = records(state)[-1]
        assert detail["domains"] == ["api.openai.com", "*.example.com"]
        assert (detail["in"], detail["reveal"]) == (["url", "body"], True)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            pytest.param(["openai", NAME], "is not a reference", id="a reference that is none"),
            pytest.param([REF, "no name"], "is not the name of a secret", id="a name that is none"),
            pytest.param([REF, NAME, "--allow-domain", "*"], "unsafe_any_domain", id="every domain there is"),
            pytest.param([REF, NAME, "--in", "cookie"], "cookie", id="a place that is none"),
            pytest.param([NAME], "Missing argument", id="no reference"),
        ],
    )
    def test_a_mistake_grants_nothing(self, secret: Any, arguments: list[str], said: str) -> None:
        assert said in secret("grant", *arguments, status=2).err
        assert secret("list").out == ""

    def test_can_be_taken_back(self, kept: Any) -> None:
        kept("grant", REF, NAME)
        assert f"host secret revoke {REF} {NAME}" in kept("revoke", f"{REF}:0.1.0", NAME, status=2).err
        kept("grant", f"{REF}:0.1.0", NAME)
        assert (
            f"all versions still have it: host secret revoke {REF} {NAME}" in kept("revoke", f"{REF}:0.1.0", NAME).err
        )
        kept("revoke", REF, NAME)
        assert "nobody" in kept("list").out
        kept("revoke", REF, NAME, status=2)


class TestWhich:
    def test_says_who_answers_and_who_else_would(self, kept: Any, tmp_path: Path) -> None:
        file = tmp_path / "secrets.env"
        file.write_text(f"export {NAME}='sk-file-0123456789abcdefghFILE'\n")
        file.chmod(0o644)
        places = {NAME: "sk-env-0123456789abcdefghijENVI", "HOST_SECRETS": str(file)}
        ran = kept("which", NAME, env=places)
        assert ran.out.splitlines() == [
            "the store (sk-…MNOP)",
            "not used: the environment (sk-…ENVI)",
            f"not used: the file {file} (sk-…FILE)",
        ]
        assert f"warning: others can read {file}: chmod 600 {file}" in ran.err
        answer = json.loads(kept("which", NAME, "--json", env=places).out)
        assert answer == {
            "name": NAME,
            "from": {"place": "store"},
            "also": [{"place": "environment"}, {"place": "file", "path": str(file)}],
        }

    def test_takes_another_file(self, secret: Any, tmp_path: Path) -> None:
        (tmp_path / "other.env").write_text(f"{NAME}={KEY}\n")
        assert secret("which", NAME, "--secrets-file", "other.env").out == "the file other.env (sk-…MNOP)\n"

    def test_nowhere_is_a_mistake_that_says_what_to_do(self, secret: Any) -> None:
        assert f"host secret set {NAME}" in secret("which", NAME, status=2).err


class TestRotateKey:
    def test_seals_all_of_them_anew(self, kept: Any, state: Path) -> None:
        before = list(state.glob("master-*.key"))
        assert kept("rotate-key").err == "1 secret is sealed with a new key\n"
        assert list(state.glob("master-*.key")) == before
        assert kept("get", NAME).out == "sk-…MNOP\n"

    def test_makes_a_new_master_key_in_a_file(self, kept: Any, state: Path) -> None:
        [before] = state.glob("master-*.key")
        assert f"the new master key is in a file in {state}" in kept("rotate-key", "--master").err
        [after] = state.glob("master-*.key")
        assert after != before
        assert kept("get", NAME).out == "sk-…MNOP\n"

    def test_moves_the_master_key_into_the_environment_and_on(self, kept: Any, state: Path, keyring: Path) -> None:
        one, other = (base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2))
        kept("rotate-key", "--master", env={"HOST_MASTER_KEY": one})
        assert list(state.glob("master-*.key")) == []
        assert "is nowhere to be found" in kept("get", NAME, status=6).err
        same = kept("rotate-key", "--master", status=2, env={"HOST_MASTER_KEY": one})
        assert "HOST_MASTER_KEY is the master key that is in use" in same.err
        moved = kept("rotate-key", "--master", env={"HOST_MASTER_KEY": f"{other} {one}"})
        assert "take it out of HOST_MASTER_KEY" in moved.err
        kept("rotate-key", "--place", "keyring", env={"HOST_MASTER_KEY": other})
        assert kept("get", NAME).out == "sk-…MNOP\n"
        (keyring / "locked").touch()
        assert "the keyring cannot be used: KeyringLocked" in kept("get", NAME, status=6).err


def test_a_new_state_keeps_its_master_key_in_the_keyring(secret: Any, state: Path, keyring: Path) -> None:
    shutil.rmtree(state)
    secret("set", NAME, stdin=KEY)
    assert list(state.glob("master-*.key")) == []
    assert [file.name.rpartition("-")[0] for file in keyring.glob("*master key*")] == ["catalyst-host master key"]
    assert secret("get", NAME).out == "sk-…MNOP\n"


def test_no_other_user_can_read_what_is_kept(kept: Any, state: Path) -> None:
    assert [file.name for file in (state, *state.iterdir()) if file.stat().st_mode & 0o77] == []


def test_help_needs_no_database() -> None:
    code = "import sys, host.cli.commands.secret; sys.exit(bool({'sqlite3', 'cryptography', 'keyring'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
