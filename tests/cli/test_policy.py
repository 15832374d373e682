"""`host policy`: what people type, and what they get."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from host.cli import main
from host.core.names import Reference, SecretName
from host.runtime.workspace import Workspace

Typed = Callable[..., Result]

ALL = "c:local.openai"
ONE = "c:local.openai:0.1.0"
MANIFEST = {
    "id": "catalyst:local.openai",
    "version": "0.1.0",
    "wasi": {"http": True, "secrets": True},
    "secrets": ["OPENAI_API_KEY"],
    "domains": ["api.openai.com", "{config.base_url}"],
}
FETCH = "cyfr:http/fetch@0.1.0"


@pytest.fixture
def state_dir(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOST_DATABASE", "HOST_MASTER_KEY", "VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOST_STATE_DIR", str(state))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the editor's file is; other tests keep theirs
    monkeypatch.chdir(tmp_path)
    return state


@pytest.fixture
def typed(state_dir: Path) -> Typed:
    """`typed("set", …)` is `host policy set …`."""
    return lambda *arguments: CliRunner().invoke(main, ["policy", *map(str, arguments)])


@pytest.fixture
def workspace(state_dir: Path) -> Iterator[Workspace]:
    with Workspace.open() as one:
        yield one


def installed(workspace: Workspace, imports: tuple[str, ...] = (FETCH,)) -> None:
    """A component that says of itself what MANIFEST says; what it does is nobody's question here."""
    workspace.components.register(
        Reference.parse(ONE), b"\0asm\x0d\0\x01\0", manifest=json.dumps(MANIFEST), imports=imports
    )


def said(ran: Result) -> Any:
    assert (ran.exit_code, ran.stderr) == (0, ""), ran.output
    return json.loads(ran.stdout)


class TestSet:
    def test_the_briefs_own_line(self, typed: Typed) -> None:
        ran = typed("set", ONE, "allowed_domains", '["api.openai.com"]')
        assert (ran.exit_code, ran.stdout) == (0, "")
        assert said(typed("show", ONE, "--json")) == {"allowed_domains": ["api.openai.com"]}

    def test_a_version_may_be_written_behind_an_at_sign_and_the_type_in_full(self, typed: Typed) -> None:
        typed("set", "catalyst:local.openai@0.1.0", "timeout", "30s")
        assert said(typed("show", ONE, "--json")) == {"timeout": "30s"}

    @pytest.mark.parametrize(
        ("field", "value", "hint"),
        [
            pytest.param("allowed_domains", "api.openai.com", """host policy set c:local.openai allowed_domains '["api.openai.com"]'""", id="a word for a list"),
            pytest.param("max_streams", "two", "a whole number, 0 or more", id="a word for a number"),
            pytest.param("timeout", "forever", "like 500ms, 30s, 5m or 1h", id="a duration that is none"),
            pytest.param("allowed_domain", "[]", "one of allowed_domains, ", id="a field that there is not"),
            pytest.param("allowed_domains", '["*"]', "unsafe_any_domain", id="every domain"),
        ],
    )  # fmt: skip
    def test_a_mistake_changes_nothing_and_says_what_to_type(
        self, typed: Typed, field: str, value: str, hint: str
    ) -> None:
        ran = typed("set", ALL, field, value)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert field in ran.stderr
        assert hint in ran.stderr
        assert said(typed("list", "--json")) == {}

    def test_the_line_that_a_mistake_is_answered_with_works(self, typed: Typed) -> None:
        hint = typed("set", ALL, "allowed_domains", "a.test,b.test").stderr.partition("hint: ")[2]
        assert typed(*shlex.split(hint)[2:]).exit_code == 0
        assert said(typed("show", ALL, "--json")) == {"allowed_domains": ["a.test", "b.test"]}

    def test_what_is_no_reference_is_a_mistake(self, typed: Typed) -> None:
        ran = typed("set", "openai.wasm", "timeout", "30s")
        assert ran.exit_code == 2
        assert "is not a reference" in ran.stderr


class TestShow:
    def test_nothing_is_said_in_words_and_empty_in_json(self, typed: Typed) -> None:
        ran = typed("show", ALL)
        assert (ran.exit_code, ran.stdout) == (0, "")
        assert ran.stderr.startswith("nothing is set for c:local.openai")
        assert said(typed("show", ALL, "--json")) == {}

    def test_effective_is_every_field_with_where_it_comes_from(self, typed: Typed) -> None:
        typed("set", ALL, "timeout", "30s")
        typed("set", ONE, "allowed_domains", '["a.test"]')
        rows = [line.split() for line in typed("show", ONE, "--effective").stdout.splitlines()]
        assert rows[0] == [ONE]
        assert ["allowed_domains", ONE, '["a.test"]'] in rows
        assert ["timeout", ALL, "30s"] in rows
        assert ["max_memory_bytes", "default", "128MiB"] in rows
        shown = said(typed("show", ONE, "--effective", "--json"))
        assert shown["origins"]["timeout"] == ALL
        assert shown["policy"]["allowed_domains"] == ["a.test"]
        assert shown["manifest"] is None

    def test_of_an_installed_component_it_is_the_version_that_would_run(
        self, typed: Typed, workspace: Workspace
    ) -> None:
        installed(workspace)
        typed("set", ONE, "timeout", "7s")
        assert said(typed("show", ALL, "--effective", "--json"))["policy"]["timeout"] == "7s"

    def test_what_the_manifest_leaves_of_the_domains(self, typed: Typed, workspace: Workspace) -> None:
        installed(workspace)
        workspace.config.set(Reference.parse(ALL), "base_url", "https://llm.test/v1")
        typed("set", ALL, "allowed_domains", '["*.openai.com", "evil.test"]')
        shown = said(typed("show", ALL, "--effective", "--json"))["manifest"]
        assert shown == {"used": ["*.openai.com"], "unused": ["evil.test"], "open": ["llm.test"]}
        page = typed("show", ALL, "--effective").stdout
        assert "it does not ask for evil.test" in page
        assert "it asks for llm.test, which is not allowed" in page

    def test_a_long_list_is_not_cut_off(self, typed: Typed) -> None:
        many = [f"domain-number-{number}.test" for number in range(50)]
        typed("set", ALL, "allowed_domains", json.dumps(many))
        for more in ([], ["--effective"]):
            assert many[-1] in typed("show", ALL, *more).stdout


class TestListAndReset:
    def test_the_list_names_what_is_set_and_for_what(self, typed: Typed) -> None:
        assert "no policy is set" in typed("list").stderr
        typed("set", ALL, "timeout", "30s")
        typed("set", ONE, "max_streams", "1")
        typed("set", ONE, "cpu_time", "1s")
        assert [line.split(maxsplit=1) for line in typed("list").stdout.splitlines()[1:]] == [
            [ALL, "timeout"],
            [ONE, "cpu_time, max_streams"],
        ]

    def test_a_reset_is_of_exactly_that_reference(self, typed: Typed) -> None:
        typed("set", ALL, "timeout", "30s")
        typed("set", ONE, "max_streams", "1")
        typed("set", ONE, "cpu_time", "1s")
        assert typed("reset", ONE, "cpu_time").exit_code == 0
        assert said(typed("list", "--json")) == {ALL: {"timeout": "30s"}, ONE: {"max_streams": 1}}
        assert typed("reset", ONE, "timeout").stderr == f"timeout was not set for {ONE}\n"
        assert "max_streams" in typed("reset", ONE, "--yes").stderr
        assert said(typed("list", "--json")) == {ALL: {"timeout": "30s"}}
        again = typed("reset", ONE, "--yes")
        assert (again.exit_code, again.stderr) == (0, f"nothing was set for {ONE}\n")


class TestCheck:
    @pytest.fixture(autouse=True)
    def _policy(self, typed: Typed) -> None:
        typed("set", ALL, "allowed_domains", '["a.test", "mapped.test", "http://127.0.0.1:8080", "http://10.1.2.3"]')
        typed("set", ALL, "allowed_methods", '["GET", "POST"]')
        typed("set", ALL, "allowed_private", '["127.0.0.0/8"]')
        typed("set", ALL, "upstreams", '{"https://mapped.test": "http://10.9.9.9"}')

    @pytest.mark.parametrize(
        ("url", "more", "status", "words"),
        [
            pytest.param("https://a.test/x?key=1", [], 0, ["allow: GET https://a.test/x\n", "allowed_domains: a.test"], id="an allowed domain"),
            pytest.param("https://a.test/", ["--method", "post"], 0, ["allow: POST"], id="an allowed method"),
            pytest.param("https://a.test/", ["--method", "PUT"], 3, ["deny: PUT", "method not granted", '["GET", "POST", "PUT"]'], id="another method"),
            pytest.param("https://b.test/", [], 3, ["deny: GET", "domain not granted", '"http://10.1.2.3", "b.test"]'], id="another domain"),
            pytest.param("http://127.0.0.1:8080/", [], 0, ["in allowed_private"], id="a private address that is allowed"),
            pytest.param("http://10.1.2.3/", [], 3, ["10.1.2.3 is not public (private)", '["127.0.0.0/8", "10.1.2.3"]'], id="a private address that is not"),
            pytest.param("https://mapped.test/", [], 0, ["sent to  http://10.9.9.9", "any: "], id="a mapped origin goes anywhere"),
            pytest.param("https://a.test/", [], 0, ["decided at each connection", "127.0.0.0/8"], id="a name is decided when it is looked up"),
        ],
    )  # fmt: skip
    def test_allow_or_deny_by_which_rule(
        self, typed: Typed, url: str, more: list[str], status: int, words: list[str]
    ) -> None:
        ran = typed("check", ALL, url, *more)
        assert (ran.exit_code, ran.stderr) == (status, "")
        assert [word for word in words if word not in ran.stdout] == []

    def test_no_query_is_repeated(self, typed: Typed) -> None:
        assert "sk-secret" not in typed("check", ALL, "https://a.test/?key=sk-secret").output

    @pytest.mark.parametrize("url", ["a.test", "ftp://a.test/", "https://a.test:0/", "https://user@a.test/"])
    def test_what_no_catalyst_could_ask_for_is_a_mistake(self, typed: Typed, url: str) -> None:
        assert typed("check", ALL, url).exit_code == 2

    def test_pasting_the_remedy_allows_it(self, typed: Typed) -> None:
        for url in ("https://b.test/", "http://10.1.2.3/"):
            remedy = json.loads(typed("check", ALL, url, "--json").stdout)["remedy"]
            assert typed(*shlex.split(remedy.partition("run: ")[2])[2:]).exit_code == 0
            assert typed("check", ALL, url).exit_code == 0
        assert typed("check", ALL, "https://a.test/").exit_code == 0

    def test_the_secrets_that_may_travel_there_are_named(self, typed: Typed, workspace: Workspace) -> None:
        for name, domain in (
            ("OPENAI_API_KEY", "a.test"),
            ("UNASKED", "a.test"),
            ("ELSEWHERE", "c.test"),
            ("OPEN", None),
        ):
            domains = [domain] if domain else None  # of several, none is chosen
            workspace.grants.grant(Reference.parse(ALL), SecretName.parse(name), domains=domains)
        assert said(typed("check", ALL, "https://a.test/", "--json"))["secrets"] == [
            "OPENAI_API_KEY in header",
            "UNASKED in header",
        ]
        workspace.config.set(Reference.parse(ALL), "base_url", "https://a.test")
        installed(workspace)
        assert said(typed("check", ALL, "https://a.test/", "--json"))["secrets"] == ["OPENAI_API_KEY in header"]

    def test_the_manifest_has_a_word_in_it_once_the_component_is_installed(
        self, typed: Typed, workspace: Workspace
    ) -> None:
        assert "it is not installed" in typed("check", ALL, "https://a.test/").stdout
        installed(workspace)
        ran = typed("check", ALL, "https://a.test/")
        assert ran.exit_code == 3
        assert "manifest does not ask for this domain" in ran.stdout

    def test_a_component_that_imports_no_http_sends_nothing(self, typed: Typed, workspace: Workspace) -> None:
        installed(workspace, imports=())
        ran = typed("check", ALL, "https://api.openai.com/")
        assert ran.exit_code == 3
        assert "imports nothing that sends requests" in ran.stdout


class TestFiles:
    def test_what_is_exported_is_imported(self, typed: Typed, tmp_path: Path) -> None:
        typed("set", ALL, "upstreams", '{"https://a.test": "http://127.0.0.1:1"}')
        typed("set", ALL, "timeout", "30s")
        before = said(typed("show", ALL, "--json"))
        for file in ("p.toml", "p.json"):
            assert typed("export", ALL, file).exit_code == 0
            assert typed("import", "c:local.copy", file).exit_code == 0
            assert said(typed("show", "c:local.copy", "--json")) == before
            typed("reset", "c:local.copy", "--yes")
        assert said(typed("export", ALL)) == before

    def test_an_import_is_the_whole_document_or_nothing(self, typed: Typed, tmp_path: Path) -> None:
        typed("set", ALL, "timeout", "30s")
        (tmp_path / "p.toml").write_text('allowed_domains = ["a.test"]\nmax_streams = "many"\n')
        assert typed("import", ALL, "p.toml").exit_code == 2
        assert said(typed("show", ALL, "--json")) == {"timeout": "30s"}
        (tmp_path / "p.toml").write_text('allowed_domains = ["a.test"]\n')
        assert typed("import", ALL, "p.toml").exit_code == 0
        assert said(typed("show", ALL, "--json")) == {"allowed_domains": ["a.test"]}

    def test_all_of_them_travel_in_one_document(self, typed: Typed) -> None:
        typed("set", ALL, "timeout", "30s")
        typed("set", ONE, "max_streams", "1")
        before = said(typed("export", "--all"))
        assert typed("export", "--all", "all.toml").exit_code == 0
        typed("set", ONE, "max_streams", "2")
        typed("set", "c:local.other", "max_streams", "3")
        assert typed("import", "--all", "all.toml").exit_code == 0
        assert said(typed("export", "--all")) == {**before, "c:local.other": {"max_streams": 3}}

    @pytest.mark.parametrize(
        "words",
        [["import"], ["import", ALL], ["import", "--all"], ["import", ALL, "none.toml"], ["export"], ["export", ALL, "a", "b"]],
        ids=" ".join,
    )  # fmt: skip
    def test_what_is_missing_is_a_mistake(self, typed: Typed, words: list[str]) -> None:
        assert typed(*words).exit_code == 2

    def test_a_reference_spelled_in_two_ways_is_no_way_to_say_two_things(self, typed: Typed, tmp_path: Path) -> None:
        narrow, wide = {"allowed_domains": []}, {"allowed_domains": ["unsafe_any_domain"]}
        (tmp_path / "all.json").write_text(json.dumps({"c:local.openai": narrow, "catalyst:local.openai": wide}))
        ran = typed("import", "--all", "all.json")
        assert (ran.exit_code, "c:local.openai is there twice" in ran.stderr) == (2, True)
        assert said(typed("export", "--all")) == {}

    def test_a_field_that_is_there_twice_is_no_way_to_say_two_things(self, typed: Typed, tmp_path: Path) -> None:
        (tmp_path / "p.json").write_text('{"allowed_domains": [], "allowed_domains": ["unsafe_any_domain"]}')
        assert typed("import", ALL, "p.json").exit_code == 2
        assert typed("set", ALL, "rate_limit", '{"requests": 1, "window": "1m", "requests": 1000}').exit_code == 2
        assert said(typed("export", "--all")) == {}

    def test_a_document_of_something_else_is_refused_by_name(self, typed: Typed, tmp_path: Path) -> None:
        (tmp_path / "all.json").write_text('{"c:local.openai": ["a.test"]}')
        ran = typed("import", "--all", "all.json")
        assert ran.exit_code == 2
        assert "c:local.openai is a JSON array" in ran.stderr

    def test_a_policy_that_was_exported_is_one_for_run(self, typed: Typed, tmp_path: Path) -> None:
        from host.cli.permissions import read_policy

        typed("set", ALL, "allowed_domains", '["a.test"]')
        typed("export", ALL, "p.toml")
        assert list(read_policy(str(tmp_path / "p.toml")).allowed_domains) == ["a.test"]


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`editor("sed -i …")` is what $EDITOR does to the file that it is given."""

    def use(script: str) -> None:
        program = tmp_path / "editor"
        # What is saved within the same second as it was written would pass for not saved.
        program.write_text(f'#!/bin/sh\n{script}\ntouch -d "+2 seconds" "$1"\n')
        program.chmod(0o700)
        monkeypatch.setenv("EDITOR", str(program))

    return use


class TestEdit:
    def test_what_is_saved_is_set(self, typed: Typed, editor: Callable[[str], None]) -> None:
        typed("set", ALL, "timeout", "30s")
        editor("""sed -i 's/^timeout.*/timeout = "9s"/; s/^# max_streams.*/max_streams = 1/' "$1" """)
        ran = typed("edit", ALL)
        assert (ran.exit_code, ran.stderr) == (0, "the policy of c:local.openai is set\n")
        assert said(typed("show", ALL, "--json")) == {"timeout": "9s", "max_streams": 1}

    def test_the_page_shows_the_known_fields(self, typed: Typed, editor: Callable[[str], None], tmp_path: Path) -> None:
        editor(f'cp "$1" {tmp_path}/seen.toml')
        assert "as it was" in typed("edit", ALL).stderr
        seen = (tmp_path / "seen.toml").read_text()
        assert "# allowed_domains = []" in seen
        assert '# timeout = "10m"' in seen

    def test_an_empty_page_resets_everything(self, typed: Typed, editor: Callable[[str], None]) -> None:
        typed("set", ALL, "timeout", "30s")
        editor(': > "$1"')
        assert typed("edit", ALL).exit_code == 0
        assert said(typed("list", "--json")) == {}

    def test_after_a_mistake_nothing_is_set_and_nothing_lost(
        self, typed: Typed, editor: Callable[[str], None], tmp_path: Path
    ) -> None:
        typed("set", ALL, "timeout", "30s")
        editor("""printf 'timeout = "forever"\\n# a long thought\\n' > "$1" """)
        ran = typed("edit", ALL)
        assert ran.exit_code == 2
        assert "'forever' is not a duration" in ran.stderr
        assert said(typed("show", ALL, "--json")) == {"timeout": "30s"}
        command = shlex.split(ran.stderr.rpartition(": host ")[2])
        kept = Path(command[-1])
        assert kept.read_text() == 'timeout = "forever"\n# a long thought\n'
        assert kept.stat().st_mode & 0o077 == 0
        kept.write_text('timeout = "5s"\n')
        assert typed(*command[1:]).exit_code == 0
        assert said(typed("show", ALL, "--json")) == {"timeout": "5s"}

    def test_what_toml_cannot_hold_is_edited_in_json(
        self, typed: Typed, editor: Callable[[str], None], tmp_path: Path
    ) -> None:
        typed("set", ONE, "rate_limit", "null")
        editor("""echo '{"rate_limit": null, "max_streams": 1}' > "$1" """)
        assert typed("edit", ONE).exit_code == 0
        assert said(typed("show", ONE, "--json")) == {"rate_limit": None, "max_streams": 1}

    def test_what_somebody_else_changed_meanwhile_is_not_overwritten(
        self, typed: Typed, editor: Callable[[str], None], workspace: Workspace
    ) -> None:
        import sys

        other = f"{sys.executable} -m host policy set {ALL} max_streams 2"
        editor(f"""{other}; echo 'timeout = "9s"' > "$1" """)
        ran = typed("edit", ALL)
        assert ran.exit_code == 2
        assert "by somebody else" in ran.stderr
        assert said(typed("show", ALL, "--json")) == {"max_streams": 2}

    def test_an_editor_that_fails_is_an_error(self, typed: Typed, editor: Callable[[str], None]) -> None:
        editor("exit 7")
        ran = typed("edit", ALL)
        assert ran.exit_code == 2
        assert "the editor failed" in ran.stderr

    def test_on_a_terminal_it_is_edited_again(self, terminal: Any, environ: dict[str, str], tmp_path: Path) -> None:
        """First a mistake, then, where the mistake is found in the file, none."""
        program = tmp_path / "editor"
        program.write_text(
            "#!/bin/sh\n"
            'if grep -q forever "$1"; then echo \'timeout = "5s"\' > "$1"; else echo \'timeout = "forever"\' > "$1"; fi\n'
            'touch -d "+2 seconds" "$1"\n'
        )
        program.chmod(0o700)
        environ |= {"HOST_STATE_DIR": str(tmp_path / "state"), "EDITOR": str(program)}
        one = terminal("policy", "edit", ALL)
        one.expect("Edit it again? [Y/n]: ")
        one.send("\n")
        one.expect("the policy of c:local.openai is set")
        assert one.finish().status == 0
