"""`cyfr:secrets/read`: who gets what, and what is written down about it."""

from __future__ import annotations

import re

import pytest

from host import Host, Secret, SecretRule, errors
from tests.probing import TOKEN, Kept, answers, asking, calls, origin_of, probe, response, serving


def test_a_granted_secret_is_a_placeholder(host: Host) -> None:
    [answer] = answers(probe(host, secrets={"TOKEN": TOKEN}), ["secrets.get", "TOKEN"])
    assert re.fullmatch(r"host-secret-[0-9a-f]{32}", answer["ok"])


def test_within_a_run_a_secret_has_one_placeholder_and_every_secret_its_own(host: Host) -> None:
    one = probe(host, secrets={"TOKEN": TOKEN, "OTHER": TOKEN[::-1]})
    first, again, other = answers(one, *[["secrets.get", name] for name in ("TOKEN", "TOKEN", "OTHER")])
    assert first == again != other


def test_two_runs_get_different_placeholders(host: Host) -> None:
    one = probe(host, secrets={"TOKEN": TOKEN})
    assert answers(one, ["secrets.get", "TOKEN"]) != answers(one, ["secrets.get", "TOKEN"])


def test_a_secret_that_was_not_handed_over_is_denied_and_the_remedy_names_it(host: Host) -> None:
    with pytest.raises(errors.Denied) as denied:
        probe(host).run(calls(["secrets.get", "TOKEN"], **{"return": {"status": 500}}))
    [refusal] = denied.value.refusals
    assert (refusal.kind, refusal.subject) == ("secret_denied", "secret TOKEN")
    assert "--secret TOKEN" in refusal.remedy


def test_the_guest_is_told_in_the_contracts_words(host: Host) -> None:
    [answer] = answers(probe(host), ["secrets.get", "TOKEN"])
    assert answer == {"err": "access-denied: TOKEN not granted to c:local.probe"}


def test_a_secret_that_the_manifest_does_not_ask_for_is_denied_although_it_was_handed_over(host: Host) -> None:
    result = probe(host, secrets={"UNASKED": TOKEN}).run(calls(["secrets.get", "UNASKED"]))
    assert result.data == [{"err": "access-denied: UNASKED not granted to c:local.probe"}]
    [refusal] = result.execution.refusals
    assert "no grant can allow it" in refusal.remedy


def test_being_refused_an_optional_secret_is_recorded_and_is_no_reason_for_a_failure(host: Host) -> None:
    with pytest.raises(errors.Denied) as denied:
        probe(host).run(calls(["secrets.get", "EXTRA"], ["secrets.get", "TOKEN"], **{"return": {"status": 500}}))
    assert [refusal.subject for refusal in denied.value.refusals] == ["secret TOKEN"]
    result = probe(host).run(calls(["secrets.get", "EXTRA"], **{"return": {"status": 500}}))
    assert result.status == 500
    assert [event.decision for event in result.execution.decisions if event.kind == "secret.use"] == ["deny"]


@pytest.mark.parametrize(
    "name", ["", " ", "1TOKEN", "TOKEN\n", "TOKEN\x00", "../TOKEN", "T" * 129, "TÖKEN", "\x1b[31m", "{}", "x" * 100_000]
)
def test_what_is_no_name_of_a_secret_is_denied(host: Host, name: str) -> None:
    result = probe(host, secrets={"TOKEN": TOKEN}).run(calls(["secrets.get", name]))
    [answer] = result.data
    assert [one.decision for one in result.execution.decisions if one.kind == "secret.use"] == ["deny"]
    assert answer["err"].startswith("access-denied: ")
    assert len(answer["err"]) < 300
    assert answer["err"].isprintable()


def test_the_case_of_a_name_counts(host: Host) -> None:
    [answer] = answers(probe(host, secrets={"TOKEN": TOKEN}), ["secrets.get", "token"])
    assert "err" in answer


def test_a_revealed_secret_is_shown_and_audited_as_that() -> None:
    kept = Kept()
    with Host(sink=kept) as host, serving(response()) as server:
        # What the guest returns is redacted, so it sends what it was shown, to where no placeholder is replaced.
        one = probe(host, origin_of(server), secrets={"TOKEN": Secret(TOKEN, reveal=True, places=["url"])})
        result = one.run(calls(["secrets.get", "TOKEN"], ["fetch.request", asking(headers={"X-Seen": "$0"})]))
        assert TOKEN.encode() in server.requests[0]
    assert TOKEN not in repr(result)
    assert [(event.kind, event.decision) for event in kept if event.kind.startswith("secret")] == [
        ("secret.reveal", "allow")
    ]
    assert TOKEN not in repr(kept)


def test_reveal_in_the_policy_is_enough_for_a_secret_handed_over_as_a_string(host: Host) -> None:
    one = probe(host, secrets={"TOKEN": TOKEN}, policy_secrets={"TOKEN": SecretRule(reveal=True)})
    result = one.run(calls(["secrets.get", "TOKEN"]))
    assert "secret.reveal" in [event.kind for event in result.execution.decisions]


def test_a_use_is_recorded_once_however_often_it_is_asked_for(host: Host) -> None:
    result = probe(host, secrets={"TOKEN": TOKEN}).run(calls(*[["secrets.get", "TOKEN"]] * 5))
    used = [event for event in result.execution.decisions if event.kind == "secret.use"]
    assert [(event.decision, event.detail) for event in used] == [("allow", {"secret": "TOKEN"})]


@pytest.mark.parametrize("value", ["", " padded", "padded\n", "nul\x00l", "line\nbreak", "\ud800"])
def test_a_value_that_could_not_travel_is_refused_when_it_is_handed_over(host: Host, value: str) -> None:
    with pytest.raises(errors.InputError) as refused:
        probe(host, secrets={"TOKEN": value})
    assert not value.strip() or value.strip() not in str(refused.value)
