"""`/v1`: OpenAI's API over catalysts.

gateway.py    a request becomes an operation, its result the answer: documents, bytes, events, errors in OpenAI's shape
requests.py   query and body -> parameters and attachments
forms.py      a form -> its parts
"""

from host.server.openai.gateway import Gateway

__all__ = ["Gateway"]
