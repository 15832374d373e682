import pytest


def test_a_secret_is_what_the_host_gives_for_it(guest):
    assert guest("catalyst.sdk.secrets").get("OPENAI_API_KEY") == "placeholder-1"


@pytest.mark.parametrize("interfaces", [("read",), ()])
def test_a_secret_that_is_not_there_is_a_403_that_names_it(guest, interfaces):
    with pytest.raises(Exception) as caught:
        guest("catalyst.sdk.secrets", interfaces).get("OTHER")
    assert (caught.value.status, caught.value.error["type"]) == (403, "secret_denied")
    assert "OTHER" in caught.value.error["message"]


def test_the_configuration_is_what_the_operator_set(guest, world):
    world.settings = {"base_url": "https://x.test"}
    assert guest("catalyst.sdk.config").get() == {"base_url": "https://x.test"}


@pytest.mark.parametrize("settings", [None, [], "words"])
def test_a_configuration_that_is_no_object_is_none(guest, world, settings):
    world.settings = settings
    assert guest("catalyst.sdk.config").get() == {}


def test_an_event_is_delivered_where_somebody_listens(guest, world):
    output = guest("catalyst.sdk.output")
    world.listeners = 2
    assert [output.emit({"a": 1}), output.emit_json('{"b": 2}'), output.emit({})] == [True, True, False]
    assert world.emitted == [{"a": 1}, {"b": 2}]


def test_words_reach_the_log_at_their_level(guest, world):
    log = guest("catalyst.sdk.log")
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)("words")
    assert world.logged == [(level, "words") for level in ("debug", "info", "warning", "error")]


def test_what_a_manifest_does_not_ask_for_comes_to_nothing(guest, world):
    guest("catalyst.sdk.log", ()).info("words")
    assert guest("catalyst.sdk.config", ()).get() == {}
    assert guest("catalyst.sdk.output", ()).emit({}) is False
    assert (world.logged, world.emitted) == ([], [])
