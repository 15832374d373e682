"""`/v1`: OpenAI's API over catalysts. A request becomes an operation, its result the answer.

routes.py     method and path -> operation, as the catalysts declare
requests.py   path, query and body -> parameters and attachments
models.py     `/v1/models`, of all providers
answers.py    results -> documents, bytes, events
errors.py     whatever went wrong, in OpenAI's shape
"""

from host.server.openai.gateway import Gateway

__all__ = ["Gateway"]
