"""The console: one page at `/`, and the API that the page uses, for holders of an admin key.

app.py          the routes, and the files of the page
sessions.py     sessions, and who may use the API: a session, or the bearer of a key; against forged requests
bodies.py       the forms of request bodies
views.py        the fields that the page shows
starting.py     parameters to begin with
playground.py   one operation, as a stream of lines
page/           the page, its style and its modules
"""

from host.server.console.app import Console

__all__ = ["Console"]
