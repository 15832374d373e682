"""The page and its files, as they are served."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from tests.server.conftest import Server

NAMES = sorted(file.name for file in (files("host.server.console") / "page").iterdir())
PATHS = ["/", *(f"/console/{name}" for name in NAMES)]


@pytest.mark.parametrize("path", PATHS)
def test_a_file_is_served_with_what_keeps_others_out(server: Server, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_there_already_is_not_sent_again(server: Server, path: str) -> None:
    tag = server.get(path).headers["etag"]
    for given in (tag, f'W/{tag}, "other"'):
        answer = server.get(path, headers={"if-none-match": given})
        assert (answer.status_code, answer.content) == (304, b"")
        assert "content-security-policy" in answer.headers
    assert server.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/console/nothing.js", "/console/app.py", "/console/..%2Fapp.py", "/console/%2e%2e/app.py"]
)
def test_what_is_no_file_of_the_page_is_not_served(server: Server, path: str) -> None:
    assert server.get(path).status_code == 404


def test_the_page_has_nothing_of_others_and_nothing_inline(server: Server) -> None:
    page = server.get("/").text
    assert re.findall(r"(?:src|href)=\"(?!console/|data:image)([^\"]*)", page) == []
    assert re.findall(r"<script[^>]*>([^<]+)</script>|<style|\son\w+=|style=", page) == []
    for name in NAMES:
        assert not re.search(r"(?<!xmlns=')https?://(?!www\.w3\.org/2000/svg)", server.get(f"/console/{name}").text), (
            name
        )


def test_no_module_makes_html_of_text(server: Server) -> None:
    for name in (one for one in NAMES if one.endswith(".js")):
        told = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function",
            server.get(f"/console/{name}").text,
        )
        assert told == [], name
