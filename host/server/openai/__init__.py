"""`/v1`: OpenAI's API over catalysts.

gateway.py    a request becomes an operation, its result the answer
requests.py   method and path -> operation; path, query and body -> parameters and attachments
answers.py    results -> documents, bytes, events; errors in OpenAI's shape
"""

from host.server.openai.gateway import Gateway

__all__ = ["Gateway"]
