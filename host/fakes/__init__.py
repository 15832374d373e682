"""Fakes of outside services, for tests and demos: real HTTP and WebSockets on the loopback interface.
Instances share no state.

messages.py     requests and responses
server.py       the HTTP server
websocket.py    its WebSockets
request_log.py  the requests that arrived
openai/         FakeOpenAI, deterministic, with scripted faults

It may import `core`, `errors`, h11 and wsproto. A new fake is a package like `openai/`, with a subclass of
LoopbackServer.

    @pytest.fixture
    def fake():
        with FakeOpenAI() as running:  # its own port and thread; several can run at once
            yield running

    def test_it_retries(fake):
        fake.fail_next(429, headers={"retry-after": "0"})
        client = openai.OpenAI(base_url=fake.url + "/v1", api_key="any")
        assert client.models.retrieve("gpt-4o")
        assert len(fake.requests) == 2
"""

from host.fakes.messages import Delivery, FakeRequest, FakeResponse
from host.fakes.openai.fake import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.fakes.server import LoopbackServer

__all__ = ["Delivery", "FakeOpenAI", "FakeRequest", "FakeResponse", "Fault", "LoopbackServer"]
