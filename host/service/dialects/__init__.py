"""How providers name tokens, text and models: one file per provider, each with the functions that `Dialect` lists.

It may import `host.component`, `host.core` and `host.errors`. A new provider is a new file here, a table of tests like
`tests/service/test_dialects.py`, and its place in `host.service.request.resolve`, which picks the dialect.
"""

from host.service.dialects.dialect import Dialect as Dialect
from host.service.dialects.dialect import Tokens as Tokens
