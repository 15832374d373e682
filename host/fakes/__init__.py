"""Fakes of outside services, for anybody's tests and for demos: real HTTP on the loopback interface, no state shared
between instances, no dependency but h11.

    @pytest.fixture
    def fake():
        with FakeOpenAI() as running:  # a port and a thread of its own, as many at once as you like
            yield running

    def test_it_retries(fake):
        fake.fail_next(429, headers={"retry-after": "0"})
        client = openai.OpenAI(base_url=fake.url + "/v1", api_key="any")
        assert client.models.retrieve("gpt-4o")
        assert len(fake.requests) == 2
"""

from host.fakes.openai.fake import FakeOpenAI
from host.fakes.openai.faults import Fault

__all__ = ["FakeOpenAI", "Fault"]
