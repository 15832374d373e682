"""The console as a person has it: in Chromium, over a server with the catalyst that is shipped and the fake behind it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, Route, expect, sync_playwright
from starlette.applications import Starlette
from starlette.routing import Mount

from host.component.manifest import embed
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import Application
from host.store.access.api_keys import ApiKey
from tests.cli.conftest import Upstream, upstream  # noqa: F401 - a fixture
from tests.conftest import wat
from tests.server.conftest import (  # noqa: F401 - fixtures
    OPENAI,
    PATIENCE_S,
    Server,
    installed_state,
    one_engine,
    serving,
    state_dir,
    workspace,
)
from tests.server.console.test_access import until
from tests.server.engine import SharedLoader

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\x1b[31m\u202eevil\u2066"
)
SHOWN = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\\u001b[31m\\u202eevil\\u2066"
)

expect.set_options(timeout=PATIENCE_S * 1000)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def admin(workspace: Workspace) -> tuple[ApiKey, str]:  # noqa: F811 - the fixture
    return workspace.api_keys.create(name="admin", type="admin")


class Console:
    """A page, and what its browser complained of: nothing, at the end of a test."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def open(self, view: str = "") -> None:
        self.page.goto(f"{self.url}/{view}")

    def sign_in(self, text: str) -> None:
        self.open()
        self.page.get_by_label("Admin key").fill(text)
        self.button("Sign in").click()
        expect(self.page.get_by_role("navigation")).to_be_visible()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def tab(self, name: str) -> None:
        self.page.get_by_role("navigation").get_by_role("link", name=name).click()

    def play(self, params: Any, operation: str = "chat.completions.create") -> None:
        """Once the page has what it fills the parameters with itself."""
        self.tab("Playground")
        written = self.page.get_by_label("Parameters")
        expect(written).not_to_have_value("")
        self.page.get_by_label("Operation").select_option(operation)
        written.fill(json.dumps(params))
        self.button("Run").click()


@pytest.fixture
def server(admin: tuple[ApiKey, str], serving: Callable[..., Server]) -> Server:  # noqa: F811 - the fixture
    """It knows the key from its start on."""
    return serving()


@pytest.fixture
def console(chromium: Browser, server: Server) -> Iterator[Console]:
    context = chromium.new_context(locale="en", timezone_id="UTC", permissions=["clipboard-read", "clipboard-write"])
    one = Console(context.new_page(), server.url)
    yield one
    context.close()
    assert one.complaints == []


@pytest.fixture
def signed_in(console: Console, admin: tuple[ApiKey, str]) -> Console:
    console.sign_in(admin[1])
    return console


def chat(words: int) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Say hello in {words} words"}]}


def asked(server: Server, key: str, **params: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return server.post("/v1/chat/completions", json={**chat(5), **params}, headers=headers)


def test_without_a_key_the_page_says_how_to_make_one(
    chromium: Browser, workspace: Workspace, serving: Callable[..., Server]  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    server = serving()
    context = chromium.new_context()
    one = Console(context.new_page(), server.url)
    one.open()
    expect(one.page.get_by_text("host key create --name admin --type admin")).to_be_visible()
    expect(one.page.get_by_role("textbox")).to_have_count(0)
    workspace.api_keys.create(name="admin", type="admin")
    until(lambda: bool(server.get("/console/api/session").json()["configured"]))
    one.button("I have made one").click()
    expect(one.page.get_by_label("Admin key")).to_be_focused()
    context.close()
    assert one.complaints == []


def test_what_is_no_admin_key_does_not_get_in(
    chromium: Browser, admin: tuple[ApiKey, str], workspace: Workspace, serving: Callable[..., Server]  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    secret = workspace.api_keys.create(name="ci", type="secret")[1]
    context = chromium.new_context()
    one = Console(context.new_page(), serving().url)
    one.open()
    one.page.get_by_label("Admin key").fill(admin[1][:-1] + "?")
    one.page.get_by_label("Admin key").press("Enter")
    expect(one.page.get_by_role("alert")).to_contain_text("key is not valid here")
    one.page.get_by_label("Admin key").fill(secret)
    one.page.get_by_label("Admin key").press("Enter")
    expect(one.page.get_by_role("alert")).to_contain_text("does not have the scope 'manage'")
    expect(one.page.get_by_role("navigation")).to_have_count(0)
    context.close()


def test_a_run_is_seen_with_its_decisions(signed_in: Console, server: Server, admin: tuple[ApiKey, str]) -> None:
    assert asked(server, admin[1]).status_code == 200
    row = signed_in.page.locator("tr.ok")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("chat.completions.create")
    expect(row).to_contain_text("200")
    row.get_by_role("link").click()
    decisions = signed_in.page.locator(".records li")
    expect(decisions.first).to_contain_text("started")
    sent = decisions.filter(has=signed_in.page.get_by_text("HTTP", exact=True))
    expect(sent).to_contain_text("POST https://api.openai.com/v1/chat/completions")
    expect(sent).to_contain_text("allowed")
    expect(decisions.last).to_contain_text("with status 200")
    decisions.last.locator("summary").click()
    expect(decisions.last.locator("pre")).to_contain_text('"cpu_time_s"')


def test_a_page_that_is_refreshed_keeps_its_rows_and_its_focus(
    signed_in: Console, server: Server, admin: tuple[ApiKey, str]
) -> None:
    asked(server, admin[1])
    link = signed_in.page.locator("tr.ok a")
    expect(link).to_have_count(1)
    link.focus()
    node = link.element_handle()
    asked(server, admin[1])
    expect(signed_in.page.locator("tr.ok")).to_have_count(2)
    assert node.evaluate("node => node.isConnected && document.activeElement === node")


def test_the_playground_shows_a_stream_as_it_arrives(signed_in: Console, fake: FakeOpenAI) -> None:
    fake.script([{"event_delay_s": 0.05, "times": 1}])
    signed_in.play(chat(30))
    events = signed_in.page.locator(".events li")
    events.nth(1).wait_for()
    expect(signed_in.page.locator(".status")).to_contain_text("200")
    expect(signed_in.page.locator(".status")).to_contain_text("out")
    assert events.count() > 20
    events.nth(2).locator("summary").click()
    expect(events.nth(2).locator("pre")).to_contain_text('"choices"')
    assert len((signed_in.page.locator(".text").text_content() or "").split()) >= 20


def test_the_first_event_is_shown_before_the_second_is_sent_and_the_run_is_stopped(
    chromium: Browser, admin: tuple[ApiKey, str], workspace: Workspace, serving: Callable[..., Server], upstream: Upstream  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    workspace.policies.update(OPENAI, {"upstreams": {"https://api.openai.com": upstream.url}})
    context = chromium.new_context()
    one = Console(context.new_page(), serving().url)
    one.sign_in(admin[1])
    one.play(chat(2))
    events = one.page.locator(".events li")
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event("first"))
    expect(events).to_have_count(1)
    upstream.send(event("second"))
    expect(events).to_have_count(2)
    expect(one.page.locator(".text")).to_have_text("firstsecond")
    expect(one.page.locator(".status")).to_contain_text("running")
    one.button("Stop").click()
    expect(one.page.locator(".status")).to_contain_text("stopped")
    expect(one.button("Run")).to_be_enabled()
    one.page.locator(".status a").click()
    expect(one.page.locator(".records li").last).to_contain_text("in cancelled")
    context.close()
    assert one.complaints == []


def event(text: str) -> bytes:
    said = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
    return f"data: {json.dumps(said)}\n\n".encode()


def test_a_run_is_cancelled_from_the_overview(signed_in: Console, fake: FakeOpenAI) -> None:
    fake.script([{"event_delay_s": 0.2, "times": 1}])
    signed_in.play(chat(900))
    signed_in.page.locator(".events li").first.wait_for()
    second = Console(signed_in.page.context.new_page(), signed_in.url)
    second.open("#/overview")
    second.page.get_by_role("button", name="Cancel run").click()
    expect(signed_in.page.locator(".status")).to_contain_text("stopped")
    expect(second.page.get_by_text("Nothing is running.")).to_be_visible()
    assert second.complaints == []


def test_a_key_is_made_and_revoked(signed_in: Console, server: Server, workspace: Workspace) -> None:  # noqa: F811 - the fixture
    page = signed_in.page
    signed_in.tab("Keys")
    signed_in.button("New key").click()
    page.get_by_label("Name").fill("ci")
    page.get_by_label("Rate limit").fill("100/1m")
    page.get_by_label("Models").fill("gpt-*, o3")
    signed_in.button("Create").click()
    shown = page.get_by_label("The key").input_value()
    assert shown.startswith("host_sk_")
    signed_in.button("Copy").click()
    expect(signed_in.button("Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == shown
    signed_in.button("I have kept it").click()
    row = page.locator("tr", has_text="100/1m requests")
    expect(row).to_contain_text("models gpt-*, o3")
    assert shown not in page.content()
    until(lambda: asked(server, shown).status_code == 200)  # a server looks for changes five times a second
    expect(row.locator("td.number").first).to_have_text("1")

    page.get_by_role("button", name="Revoke ci").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator("tr.revoked")).to_contain_text("ci")
    assert workspace.api_keys.find("ci").revoked_at is not None


def test_a_key_that_cannot_be_made_says_why_where_it_is_wrong(chromium: Browser, server: Server, admin: Any) -> None:
    context = chromium.new_context()
    one = Console(context.new_page(), server.url)
    one.sign_in(admin[1])
    one.tab("Keys")
    one.button("New key").click()
    one.page.get_by_label("Name").fill("ci")
    one.page.get_by_label("Rate limit").fill("often")
    one.button("Create").click()
    expect(one.page.get_by_role("alert")).to_contain_text("does not say in how long")
    expect(one.page.get_by_label("Rate limit")).to_be_focused()
    context.close()


def test_the_own_key_is_rotated_and_the_session_goes_on(signed_in: Console, admin: tuple[ApiKey, str]) -> None:
    signed_in.tab("Keys")
    signed_in.page.get_by_role("button", name="Rotate admin").click()
    signed_in.page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    text = signed_in.page.get_by_label("The key").input_value()
    assert text != admin[1]
    signed_in.button("I have kept it").click()
    signed_in.button("New key").click()
    signed_in.page.get_by_label("Name").fill("after")
    signed_in.button("Create").click()
    expect(signed_in.page.get_by_label("The key")).to_be_visible()


def test_a_catalyst_shows_what_it_can_reach(signed_in: Console, fake: FakeOpenAI) -> None:
    signed_in.tab("Catalysts")
    reach = signed_in.page.locator(".reach tr")
    expect(reach.filter(has_text="HTTP requests")).to_contain_text(f"api.openai.com, sent to {fake.url}")
    expect(reach.filter(has_text="secrets")).to_contain_text("OPENAI_API_KEY, in a header")
    expect(reach.last).to_contain_text("never: files, sockets")
    signed_in.page.get_by_text(re.compile(r"^(embeddings: 1|18) operations?$")).click()  # many are shown by their kinds
    signed_in.page.get_by_role("link", name="embeddings.create").click()
    expect(signed_in.page.get_by_label("Operation")).to_have_value("embeddings.create")
    expect(signed_in.page.get_by_label("Parameters")).to_have_value(re.compile("text-embedding-3-small"))


def test_what_others_wrote_is_shown_and_does_nothing(
    console: Console, workspace: Workspace, admin: tuple[ApiKey, str], fake: FakeOpenAI, tmp_path: Path  # noqa: F811 - the fixture
) -> None:  # fmt: skip
    """A manifest, and a model's answer: as text, with what reorders or hides it made visible."""
    operation = {
        "description": HOSTILE,
        "params": {"type": "object", "required": ["a"], "properties": {"a": {"const": HOSTILE}}},
    }
    manifest = {
        "id": "catalyst:local.tool",
        "version": "0.1.0",
        "description": HOSTILE,
        "license": HOSTILE,
        "operations": {"do": operation},
    }
    file = tmp_path / "tool.wasm"
    file.write_bytes(embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode()))
    loader = SharedLoader()
    workspace.register(file, loader)
    loader.sandbox.close()
    console.sign_in(admin[1])
    page = console.page
    console.tab("Catalysts")
    expect(page.locator(".catalyst", has_text="c:local.tool").locator(".about")).to_have_text(SHOWN)
    expect(page.locator(".facts", has_text="License").filter(has_text="evil")).to_contain_text(SHOWN)
    console.tab("Playground")
    expect(page.get_by_label("Parameters")).not_to_have_value("")
    page.get_by_label("Catalyst").select_option("c:local.tool:0.1.0")
    expect(page.locator(".about")).to_contain_text(SHOWN)
    written = page.get_by_label("Parameters").input_value()
    assert json.loads(written) == {"a": HOSTILE}
    assert "\u202e" not in written

    told = event(HOSTILE).decode() + "data: [DONE]\n\n"
    fake.script([{"body": told, "headers": {"content-type": "text/event-stream"}}])
    page.get_by_label("Catalyst").select_option("c:local.openai:0.1.0")
    console.play(chat(3))
    expect(page.locator(".status")).to_contain_text("200")
    expect(page.locator(".text")).to_have_text(SHOWN)
    expect(page.locator(".events summary")).to_have_text(SHOWN)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert "owned" not in page.title()


def test_html_from_text_is_refused_by_the_browser_itself(signed_in: Console) -> None:
    with pytest.raises(Error, match="TrustedHTML"):
        signed_in.page.evaluate("() => { document.body.innerHTML = '<b>x</b>' }")
    signed_in.complaints.clear()  # of just that


def test_what_is_typed_while_an_operation_is_looked_up_stays_and_runs_as_that_operation(signed_in: Console) -> None:
    page, held = signed_in.page, []  # type: ignore[var-annotated]

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/operations/embeddings.create", hold)
    signed_in.tab("Playground")
    written = page.get_by_label("Parameters")
    expect(written).not_to_have_value("")
    with page.expect_request("**/operations/embeddings.create"):
        page.get_by_label("Operation").select_option("embeddings.create")
    params = json.dumps({"model": "text-embedding-3-small", "input": "mine"})
    written.fill(params)
    expect(signed_in.button("Run")).to_be_disabled()
    held[0].continue_()
    signed_in.button("Run").click()
    expect(written).to_have_value(params)
    expect(page.locator(".status")).to_contain_text("200")


def test_the_console_is_there_where_the_server_is_mounted_in_another(
    chromium: Browser, admin: tuple[ApiKey, str], workspace: Workspace, state_dir: Path  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    application = Application(state_dir=state_dir, workspace=workspace)
    around = Starlette(routes=[Mount("/host", app=application)], lifespan=lambda _: application.alive())
    context = chromium.new_context()
    with closing(Server(around)) as server:  # type: ignore[arg-type]  # all that it asks of it is that it answers
        one = Console(context.new_page(), f"{server.url}/host")
        one.sign_in(admin[1])
        one.play({}, "models.list")
        expect(one.page.locator(".status")).to_contain_text("200")
        context.close()
    assert one.complaints == []


def test_a_session_that_is_over_leads_back_to_signing_in(
    chromium: Browser, server: Server, admin: tuple[ApiKey, str], workspace: Workspace  # noqa: F811 - the fixture
) -> None:  # fmt: skip
    context = chromium.new_context()
    one = Console(context.new_page(), server.url)
    one.sign_in(admin[1])
    workspace.api_keys.create(name="another", type="admin")
    workspace.api_keys.revoke("admin")
    expect(one.page.get_by_label("Admin key")).to_be_visible()
    context.close()


def test_signing_out_leaves_nothing_behind(signed_in: Console) -> None:
    signed_in.button("Sign out").click()
    expect(signed_in.page.get_by_label("Admin key")).to_be_visible()
    signed_in.page.reload()
    expect(signed_in.page.get_by_label("Admin key")).to_be_visible()
    assert signed_in.page.context.cookies() == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("view", ["overview", "catalysts", "keys", "playground"])
def test_nothing_is_wider_than_the_window(signed_in: Console, view: str, width: int) -> None:
    signed_in.page.set_viewport_size({"width": width, "height": 800})
    signed_in.open(f"#/{view}")
    expect(signed_in.page.locator(".view")).to_be_visible()
    expect(signed_in.page.locator("h1").first).to_be_attached()
    assert signed_in.page.evaluate("() => document.documentElement.scrollWidth") <= width
