"""`host run`: what it may do, and the status that a script gets."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from host.fakes import FakeOpenAI
from tests.cli.conftest import CHAT, MODELS
from tests.conftest import GUESTS, KEY, python_guest


class TestNothingGranted:
    def test_the_denial_says_what_to_add_and_adding_exactly_that_works(
        self, process: Any, openai_file: Path, fake: FakeOpenAI
    ) -> None:
        denied = process("run", openai_file, "--input", MODELS, env={"OPENAI_API_KEY": KEY})
        assert (denied.status, denied.out) == (3, "")
        assert denied.err.startswith("denied: secret OPENAI_API_KEY: not granted (add --secret OPENAI_API_KEY")
        [hint] = [line for line in denied.err.splitlines() if line.startswith("hint: ")]
        options = hint.partition(", add ")[2].split()
        assert options == ["--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY"]
        assert fake.requests == []

        sent = ["--upstream", f"https://api.openai.com={fake.url}"]
        allowed = process("run", openai_file, "--input", MODELS, *options, *sent, env={"OPENAI_API_KEY": KEY})
        assert (allowed.status, allowed.err) == (0, "")
        assert json.loads(allowed.out)["data"]["object"] == "list"
        assert [request["headers"]["authorization"] for request in fake.requests] == [f"Bearer {KEY}"]

    def test_a_secret_without_its_domain_is_denied_by_the_domain(self, program: Any, openai_file: Path) -> None:
        ran = program("run", openai_file, "--input", MODELS, "--secret", "OPENAI_API_KEY", env={"OPENAI_API_KEY": KEY})
        assert ran.status == 3
        assert ran.err.startswith(
            "denied: GET https://api.openai.com/v1/models: domain not granted (add --allow-domain api.openai.com,"
        )
        assert ran.err.endswith("add --allow-domain api.openai.com\n")

    def test_in_json_the_denial_has_each_refusal_and_the_remedy(self, program: Any, openai_file: Path) -> None:
        ran = program("run", openai_file, "--input", MODELS, "--json")
        assert (ran.status, ran.err) == (3, "")
        error = json.loads(ran.out)["error"]
        assert (error["type"], error["blame"]) == ("denied", "operator")
        assert [refusal["kind"] for refusal in error["refusals"]] == ["secret_denied"]
        assert error["hint"].endswith("add --allow-domain api.openai.com --secret OPENAI_API_KEY")

    def test_the_environment_alone_grants_no_secret(self, program: Any, openai_file: Path, fake: FakeOpenAI) -> None:
        sent = ["--upstream", f"https://api.openai.com={fake.url}", "--allow-domain", "api.openai.com"]
        ran = program("run", openai_file, "--input", MODELS, *sent, env={"OPENAI_API_KEY": KEY})
        assert ran.status == 3
        assert fake.requests == []


class TestSecrets:
    @pytest.mark.parametrize("more", [[], ["--json"], ["--stream"], ["--stream", "--json"]], ids=" ".join)
    def test_the_key_arrives_and_is_never_printed(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, more: list[str]
    ) -> None:
        ran = program("run", openai_file, *grants(fake), "--input", json.dumps(CHAT), *more)
        assert ran.status == 0
        assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"
        assert KEY not in ran.out + ran.err

    @pytest.mark.parametrize("more", [[], ["--json"]], ids=["in words", "in JSON"])
    def test_a_key_that_the_server_sends_back_is_not_printed(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, more: list[str]
    ) -> None:
        fake.script([{"status": 401, "echo_authorization": True}])
        ran = program("run", openai_file, *grants(fake), "--input", MODELS, *more)
        assert ran.status == 1
        assert "You sent" in ran.out
        assert KEY not in ran.out + ran.err

    def test_a_file_gives_the_secret_without_its_last_line_break(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "key").write_text(f"{KEY}-from-a-file\n")
        options = [*grants(fake)[:-1], "OPENAI_API_KEY=file:key"]
        assert program("run", openai_file, *options, "--input", MODELS).status == 0
        assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}-from-a-file"

    def test_another_variable_gives_the_secret(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        options = [*grants(fake)[:-1], "OPENAI_API_KEY=env:WORK_KEY"]
        assert program("run", openai_file, *options, "--input", MODELS, env={"WORK_KEY": "sk-work"}).status == 0
        assert fake.requests[0]["headers"]["authorization"] == "Bearer sk-work"

    def test_a_policy_file_says_where_a_secret_goes(
        self, program: Any, probe_file: Path, fake: FakeOpenAI, tmp_path: Path
    ) -> None:
        (tmp_path / "policy.toml").write_text(
            f'allowed_domains = ["api.openai.com"]\n[upstreams]\n"https://api.openai.com" = "{fake.url}"\n'
            '[secrets.TOKEN]\nin = ["body"]\n'
        )
        request = {"method": "POST", "url": "https://api.openai.com/v1/x", "headers": {"a": "$0"}, "body": "$0"}
        operation = json.dumps({"calls": [["secrets.get", "TOKEN"], ["fetch.request", request]]})
        options = ["--policy", "policy.toml", "--secret", "TOKEN"]
        ran = program("run", probe_file, *options, "--input", operation, env={"TOKEN": KEY})
        assert ran.status == 0
        assert fake.requests[0]["body"] == KEY
        assert fake.requests[0]["headers"]["a"] != KEY


class TestPolicy:
    @pytest.mark.parametrize("kind", ["toml", "json"])
    def test_a_policy_is_read_from_a_file(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, tmp_path: Path, kind: str
    ) -> None:
        policy = {"allowed_domains": ["api.openai.com"], "upstreams": {"https://api.openai.com": fake.url}}
        toml = f'allowed_domains = ["api.openai.com"]\nupstreams = {{"https://api.openai.com" = "{fake.url}"}}\n'
        (tmp_path / f"policy.{kind}").write_text(json.dumps(policy) if kind == "json" else toml)
        options = ["--policy", f"policy.{kind}", "--secret", "OPENAI_API_KEY"]
        ran = program("run", openai_file, *options, "--input", MODELS, env={"OPENAI_API_KEY": KEY})
        assert (ran.status, ran.err) == (0, "")

    def test_the_options_add_to_a_policy(
        self, program: Any, openai_file: Path, fake: FakeOpenAI, grants: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "policy.toml").write_text('allowed_domains = ["example.com"]\nallowed_methods = ["POST"]\n')
        ran = program("run", openai_file, "--policy", "policy.toml", *grants(fake), "--input", MODELS)
        assert ran.status == 3
        assert "method not granted (add GET to allowed_methods" in ran.err
        assert (
            program("run", openai_file, "--policy", "policy.toml", *grants(fake), "--input", json.dumps(CHAT)).status
            == 0
        )

    def test_a_private_address_is_reached_only_where_it_is_allowed(
        self, program: Any, probe_file: Path, fake: FakeOpenAI
    ) -> None:
        request = {"method": "GET", "url": f"{fake.url}/v1/models"}
        operation = json.dumps({"calls": [["fetch.request", request]], "return": {"status": 502, "error": "see data"}})
        command = ["run", probe_file, "--allow-domain", fake.url, "--input", operation]
        denied = program(*command)
        assert (denied.status, fake.requests) == (3, [])
        assert "127.0.0.1 resolves to an address that is not public (add --allow-private" in denied.err
        assert "hint" not in denied.err  # what the manifest asks for beyond it would not help
        assert program(*command, "--allow-private", "127.0.0.0/8").status == 1
        assert [one["path"] for one in fake.requests] == ["/v1/models"]

    def test_config_is_text_or_json(self, program: Any, probe_file: Path) -> None:
        options = ["--config", "organization=org=1", "--config", "retries:=3", "--config", 'tags:=["a"]']
        ran = program("run", probe_file, *options, "--input", '{"calls": [["config.get"]]}')
        assert json.loads(ran.out)["data"] == [{"organization": "org=1", "retries": 3, "tags": ["a"]}]


class TestExitStatus:
    def test_an_operation_that_failed_upstream_is_1(
        self, process: Any, openai_file: Path, fake: FakeOpenAI, grants: Any
    ) -> None:
        fake.fail_next(401)
        ran = process("run", openai_file, *grants(fake), "--input", MODELS)
        assert (ran.status, ran.err) == (1, "the operation ended in status 401\n")
        assert json.loads(ran.out)["error"]["type"]

    def test_a_guest_that_traps_is_4(self, process: Any, guest_file: Any) -> None:
        ran = process("run", guest_file("traps_at_once"), "--input", "{}")
        assert (ran.status, ran.out) == (4, "")
        assert ran.err.startswith("error: the guest trapped")

    def test_a_guest_that_takes_too_long_is_4(self, program: Any, guest_file: Any) -> None:
        ran = program("run", guest_file("spins_forever"), "--timeout", "300ms", "--input", "{}")
        assert ran.status == 4
        assert ran.err.startswith("error: ")

    def test_a_guest_that_raises_is_4_with_its_own_traceback(self, program: Any, tmp_path: Path) -> None:
        (tmp_path / "raises.wasm").write_bytes(python_guest(GUESTS / "raises"))
        ran = program("run", "raises.wasm", "--input", '{"how": "exception"}')
        assert ran.status == 4
        assert ran.err.startswith("error: the guest raised ValueError: a value that will not do\n")
        assert 'app.py", line' in ran.err
        assert str(GUESTS) not in ran.err

    def test_a_guest_that_imports_too_late_is_told_where_it_could(self, program: Any, tmp_path: Path) -> None:
        (tmp_path / "raises.wasm").write_bytes(python_guest(GUESTS / "raises"))
        ran = program("run", "raises.wasm", "--input", '{"how": "import"}')
        assert (ran.status, ran.out) == (4, "")
        assert "ImportError: decimal is not there: import it at the top of a module" in ran.err

    @pytest.mark.parametrize(
        ("guest", "said"),
        [
            pytest.param(
                "imports_unknown", "imports evil:corp/backdoor@1.0.0, which", id="an import that nobody knows"
            ),
            pytest.param("exports_nothing", "does not export cyfr:catalyst/run@0.1.0", id="no entry point"),
            pytest.param("is_a_core_module", "a core WebAssembly module, not a component", id="a core module"),
        ],
    )
    def test_a_component_beyond_the_contract_is_5(self, process: Any, guest_file: Any, guest: str, said: str) -> None:
        ran = process("run", guest_file(guest), "--input", "{}")
        assert (ran.status, ran.out) == (5, "")
        assert said in ran.err

    def test_a_key_file_that_others_can_read_is_6(self, process: Any, guest_file: Any, tmp_path: Path) -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "cache.key").write_bytes(bytes(32))
        (tmp_path / "state" / "cache.key").chmod(0o644)
        places = {"HOST_STATE_DIR": str(tmp_path / "state"), "HOST_CACHE_DIR": str(tmp_path / "cache")}
        ran = process("run", guest_file("returns_not_json"), "--input", "{}", env=places)
        assert (ran.status, ran.out) == (6, "")
        assert "hint: remove cache.key" in ran.err

    @pytest.mark.parametrize(
        "more", [[], ["--stream"]], ids=["while it waits for an answer", "while it waits for events"]
    )
    def test_an_interrupt_is_130(
        self, started: Any, openai_file: Path, upstream: Any, grants: Any, more: list[str]
    ) -> None:
        process = started("run", openai_file, *grants(upstream), "--input", json.dumps(CHAT), *more)
        assert upstream.asked.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--input", "models.list"], ["--input: the input is not JSON", "@FILE"], id="input that is no JSON"),
        pytest.param(["--input", "[1]"], ["--input: the input is a JSON array, not an object"], id="input of a wrong kind"),
        pytest.param(["--input", "@none.json"], ["--input: cannot read 'none.json'"], id="an input file that is not there"),
        pytest.param(["--input", "{}", "--timeout", "5x"], ["--timeout: '5x' is not a duration", "30s"], id="a time of an unknown unit"),
        pytest.param(["--input", "{}", "--timeout", "0s"], ["--timeout: "], id="no time at all"),
        pytest.param(["--input", "{}", "--attach", "a"], ["--attach: 'a' is not NAME=FILE"], id="an attachment without a path"),
        pytest.param(["--input", "{}", "--attach", "a=none"], ["--attach: cannot read"], id="an attachment that is not there"),
        pytest.param(["--input", "{}", "--attach", "a=x.wasm"], ["the attachment 'a' is not used"], id="an attachment for nothing"),
        pytest.param(["--input", "{}", "--stream", "--output", "x"], ["--output does not go with --stream"], id="two ways out"),
        pytest.param(["--input", '{"a": {"$attachment": "b"}}'], ["no attachment 'b'", "--attach NAME=FILE"], id="an attachment not given"),
        pytest.param([], ["Missing option '--input'"], id="no input"),
        pytest.param(["--input", "{}", "--frobnicate"], ["No such option"], id="an option that is none"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_option_and_the_remedy(
    program: Any, guest_file: Any, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    guest_file("returns_not_json").rename(tmp_path / "x.wasm")
    ran = program("run", "x.wasm", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert [words for words in said if words not in ran.err] == []


def test_an_input_that_is_not_of_the_manifests_form_names_the_field(program: Any, openai_file: Path) -> None:
    ran = program("run", openai_file, "--input", '{"operation": 5}')
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: operation ")


def test_an_operation_that_was_misspelt_is_answered_with_the_nearest_ones(program: Any, openai_file: Path) -> None:
    ran = program("run", openai_file, "--input", '{"operation": "models.lits"}')
    assert ran.status == 1
    assert "did you mean models.list" in ran.out + ran.err


def test_a_component_that_is_not_there_is_a_mistake(process: Any) -> None:
    ran = process("run", "none.wasm", "--input", "{}")
    assert (ran.status, ran.err) == (2, "error: FILE: cannot read 'none.wasm': No such file or directory\n")


def test_a_reference_without_its_type_is_answered_with_how_one_looks(program: Any) -> None:
    ran = program("run", "local.openai", "--input", "{}")
    assert ran.status == 2
    assert "c:local.openai" in ran.err.partition("hint: ")[2]


def test_a_time_without_a_unit_is_seconds(program: Any, guest_file: Any, tmp_path: Path) -> None:
    guest_file("spins_forever").rename(tmp_path / "x.wasm")
    ran = program("run", "x.wasm", "--input", "{}", "--timeout", "0.3")
    assert ran.status == 4
    assert "0.3 s" in ran.err
