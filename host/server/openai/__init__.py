"""`/v1`: OpenAI's API over catalysts.

gateway.py   a request becomes an operation, its result the answer: documents, bytes, events, errors in OpenAI's shape
batches.py   batches and their files, where the server has them itself

What a request says, and what an answer, is in `host.openai.messages`.
"""

from host.server.openai.batches import BatchingGateway
from host.server.openai.gateway import Gateway

__all__ = ["BatchingGateway", "Gateway"]
