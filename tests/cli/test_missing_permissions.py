"""What a manifest asks for is asked on a terminal, once, and listed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.cli.output import missing_permissions
from host.cli.permissions import RunPermissions
from host.component.manifest import Manifest
from host.component.wasm import MANIFEST_SECTION, append_section
from host.errors import Refusal
from host.fakes import FakeOpenAI
from host.policy.document import Policy
from tests.conftest import KEY, wat

MODELS = '{"operation":"models.list"}'
REACH = "asks to reach api.openai.com. Allow it for this run? [y/N]: "
USE = "Use the variable OPENAI_API_KEY of your environment? [y/N]: "
TYPE = "value of OPENAI_API_KEY, or nothing to refuse: "
MANIFEST = Manifest.parse(
    '{"domains": ["api.openai.com", "{config.base_url}"], '
    '"secrets": ["OPENAI_API_KEY", {"name": "ORG", "required": false}]}'
)


@pytest.fixture
def asked(terminal: Any, openai_file: Path, fake: FakeOpenAI) -> Any:
    """`host run` of the OpenAI catalyst on a terminal, with only the way to the fake given."""

    def start(*more: str, **given: Any) -> Any:
        sent = ["--upstream", f"https://api.openai.com={fake.url}"]
        return terminal("run", openai_file, *sent, "--input", MODELS, *more, piped=True, **given)

    return start


class TestOnATerminal:
    def test_each_need_is_asked_once_and_granted_for_this_run(self, asked: Any, fake: FakeOpenAI) -> None:
        one = asked(env={"OPENAI_API_KEY": KEY})
        one.expect(REACH)
        one.send("y\n")
        one.expect(USE)
        one.send("y\n")
        ran = one.finish()
        assert (ran.status, json.loads(ran.out)["status"]) == (0, 200)
        assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"
        assert ran.err.count("?") == 2
        assert KEY not in ran.out + ran.err

    def test_no_to_the_domain_denies_it(self, asked: Any, fake: FakeOpenAI) -> None:
        one = asked(env={"OPENAI_API_KEY": KEY})
        one.expect(REACH)
        one.send("n\n")
        one.expect(USE)
        one.send("y\n")
        ran = one.finish()
        assert (ran.status, ran.out, fake.requests) == (3, "", [])
        assert "denied: GET https://api.openai.com/v1/models: domain not granted" in ran.err

    def test_no_to_the_secret_denies_it(self, asked: Any, fake: FakeOpenAI) -> None:
        one = asked(env={"OPENAI_API_KEY": KEY})
        one.expect(REACH)
        one.send("y\n")
        one.expect(USE)
        one.send("\n")  # the default is no
        ran = one.finish()
        assert (ran.status, ran.out, fake.requests) == (3, "", [])
        assert "denied: secret OPENAI_API_KEY: not granted" in ran.err

    def test_a_secret_is_typed_unseen(self, asked: Any, fake: FakeOpenAI) -> None:
        one = asked("--allow-domain", "api.openai.com")
        one.expect(TYPE)
        one.send(f"{KEY}\n")
        ran = one.finish()
        assert (ran.status, json.loads(ran.out)["status"]) == (0, 200)
        assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"
        assert KEY not in ran.err

    def test_a_secret_asked_for_by_its_option_is_typed_unseen_too(self, asked: Any, fake: FakeOpenAI) -> None:
        one = asked("--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY=prompt")
        one.expect("value of OPENAI_API_KEY: ")
        one.send(f"{KEY}\n")
        ran = one.finish()
        assert (ran.status, len(fake.requests)) == (0, 1)
        assert KEY not in ran.err

    def test_what_is_granted_already_is_not_asked(self, asked: Any) -> None:
        grants = ["--allow-domain", "*.openai.com", "--secret", "OPENAI_API_KEY"]
        ran = asked(*grants, env={"OPENAI_API_KEY": KEY}).finish()
        assert (ran.status, ran.err) == (0, "")

    def test_no_prompt_means_never(self, asked: Any) -> None:
        ran = asked("--no-prompt", env={"OPENAI_API_KEY": KEY}).finish()
        assert ran.status == 3
        assert "?" not in ran.err

    @pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
    def test_a_question_can_be_left(self, asked: Any, fake: FakeOpenAI, key: str) -> None:
        one = asked()
        one.expect(REACH)
        one.press(key, until="interrupted\r\n")
        ran = one.finish()
        assert (ran.status, ran.out, fake.requests) == (130, "", [])
        assert ran.err.endswith("interrupted\r\n")

    def test_a_manifest_cannot_forge_the_question(self, terminal: Any, tmp_path: Path) -> None:
        lie = "for tests\r\n\x1b[2Jx.wasm asks to reach harmless.example. Allow it?"
        manifest = {"secrets": [{"name": "TOKEN", "description": lie}]}
        wasm = append_section(wat("hostile/returns_not_json"), MANIFEST_SECTION, json.dumps(manifest).encode())
        (tmp_path / "x.wasm").write_bytes(wasm)
        one = terminal("run", tmp_path / "x.wasm", "--input", "{}", piped=True)
        one.expect("value of TOKEN, or nothing to refuse: ")
        one.send("\n")
        ran = one.finish()
        assert ran.status == 0
        assert "\x1b" not in ran.err
        assert len(ran.err.splitlines()) == 2


class TestElsewhere:
    def test_input_from_the_terminal_is_not_taken_for_an_answer(self, terminal: Any, openai_file: Path) -> None:
        one = terminal("run", openai_file, "--input", "-", piped=True)
        one.send(f"{MODELS}\n\x04")
        ran = one.finish()
        assert ran.status == 3
        assert "?" not in ran.err

    def test_without_a_terminal_nothing_is_asked(self, program: Any, openai_file: Path) -> None:
        ran = program("run", openai_file, "--input", MODELS, stdin="y\ny\ny\n", env={"OPENAI_API_KEY": KEY})
        assert ran.status == 3
        assert "?" not in ran.err


class TestUnmet:
    def test_everything_required_that_is_not_granted(self) -> None:
        found = missing_permissions.unmet(MANIFEST, RunPermissions(Policy()))
        assert found.options() == "--allow-domain api.openai.com --secret OPENAI_API_KEY"

    def test_a_domain_that_the_config_names(self) -> None:
        found = missing_permissions.unmet(
            MANIFEST, RunPermissions(Policy(), config={"base_url": "http://localhost:8080/v1"})
        )
        assert found.options().startswith("--allow-domain api.openai.com --allow-domain http://localhost:8080 ")

    def test_a_shell_takes_the_options_as_they_are(self) -> None:
        found = missing_permissions.unmet(Manifest.parse('{"domains": ["*.example.com"]}'), RunPermissions(Policy()))
        assert found.options() == "--allow-domain '*.example.com'"

    @pytest.mark.parametrize(
        ("allowed", "open_"),
        [
            pytest.param("*.openai.com", False, id="a wildcard covers it"),
            pytest.param("unsafe_any_domain", False, id="any domain covers it"),
            pytest.param("openai.com", True, id="its parent is another domain"),
            pytest.param("http://api.openai.com", True, id="without TLS is another origin"),
        ],
    )
    def test_a_domain_is_met_by_what_overlaps_it(self, allowed: str, open_: bool) -> None:
        assert (
            bool(missing_permissions.unmet(MANIFEST, RunPermissions(Policy(allowed_domains=[allowed]))).domains)
            is open_
        )

    def test_a_manifest_that_asks_for_nothing_needs_nothing(self) -> None:
        assert not missing_permissions.unmet(Manifest(), RunPermissions(Policy()))
        assert not missing_permissions.unmet(None, RunPermissions(Policy()))

    @pytest.mark.parametrize(
        ("kind", "helps"), [("domain_blocked", True), ("secret_denied", True), ("private_ip_blocked", False)]
    )
    def test_the_hint_is_for_those_whom_it_would_help(self, kind: str, helps: bool) -> None:
        found = missing_permissions.unmet(MANIFEST, RunPermissions(Policy()))
        assert bool(found.hint([Refusal(kind, "x", "y")])) is helps
        assert found.hint([Refusal(kind, "x", "y", grantable=False)]) is None
