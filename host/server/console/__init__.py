"""The console: one page at `/`, and the API that it uses, for whoever has an admin key.

app.py          the routes
access.py       who asks: a session, or the bearer of a key; against forged requests
sessions.py     what a session is
throttle.py     how often somebody may try to sign in
bodies.py       what is posted
facts.py        what is kept -> JSON
starting.py     parameters to begin with
playground.py   one operation, as a stream of lines
assets.py       page/ -> the page, its style and its modules
"""

from host.server.console.app import Console

__all__ = ["Console"]
