import pytest


@pytest.fixture
def streaming(guest):
    return guest("catalyst.sdk.streaming")


def test_a_stream_gives_its_text_as_it_comes_and_is_closed(streaming, world):
    world.stream("a", "", "b")
    with streaming.open_stream("GET", "https://x.test/") as stream:
        assert list(stream) == ["a", "b"]
    assert world.closed == ["h1"]


def test_a_stream_nobody_finishes_is_closed(streaming, world):
    world.stream("a", "b")
    with streaming.open_stream("GET", "https://x.test/") as stream:
        assert next(iter(stream)) == "a"
    assert world.closed == ["h1"]


def test_a_stream_is_closed_when_its_reader_fails(streaming, world):
    world.stream("a")
    with pytest.raises(ZeroDivisionError), streaming.open_stream("GET", "https://x.test/"):
        raise ZeroDivisionError
    assert world.closed == ["h1"]


def test_a_stream_that_breaks_is_an_error_and_closed(streaming, world):
    world.reads = [{"data": "a", "done": False}, {"error": {"type": "timeout", "message": "too long"}}]
    with pytest.raises(Exception) as caught, streaming.open_stream("GET", "https://x.test/") as stream:
        list(stream)
    assert caught.value.as_result() == {"status": 504, "error": {"type": "timeout", "message": "too long"}}
    assert world.closed == ["h1"]


def test_a_stream_that_is_refused_is_an_error_and_nothing_to_close(streaming, world):
    world.opened = {"error": {"type": "stream_limit", "message": "three are open"}}
    with pytest.raises(Exception) as caught:
        streaming.open_stream("GET", "https://x.test/")
    assert caught.value.error["type"] == "stream_limit"
    assert world.closed == []


def test_a_relay_is_asked_for_only_where_there_are_events_to_send(guest, world):
    guest("catalyst.sdk.streaming").open_stream("GET", "https://x.test/", relay=True)
    guest("catalyst.sdk.streaming", ("streaming",)).open_stream("GET", "https://x.test/", relay=True)
    guest("catalyst.sdk.streaming").open_stream("GET", "https://x.test/")
    assert [request.get("relay") for request in world.streams] == [True, None, None]


def test_without_the_interface_a_stream_is_an_error_and_not_a_crash(guest):
    with pytest.raises(Exception) as caught:
        guest("catalyst.sdk.streaming", ()).open_stream("GET", "https://x.test/")
    assert "manifest" in caught.value.error["message"]
