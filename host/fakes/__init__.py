"""Fakes of outside services, for anybody's tests and for demos: real HTTP on the loopback interface, no state shared
between instances, no dependency but h11.

    with FakeOpenAI() as fake:
        client = openai.OpenAI(base_url=fake.url + "/v1", api_key="any")
"""

from host.fakes.openai.fake import FakeOpenAI
from host.fakes.openai.faults import Fault

__all__ = ["FakeOpenAI", "Fault"]
