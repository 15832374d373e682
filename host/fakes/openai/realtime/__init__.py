"""The WebSockets of OpenAI's API, and the REST beside them (platform.openai.com/docs/api-reference/realtime).

sockets.py      which session answers which path, and who may open it
settings.py     a session's own description, in the spelling of the API and of its beta, and how it changes
session.py      /v1/realtime: one function for each event of the client
answer.py       a response of a session, as its events
translation.py  /v1/realtime/translations
live.py         /v1/live/sessions, its forks, and connections beside it
responses.py    /v1/responses
secrets.py      POST /v1/realtime/client_secrets and its siblings
calls.py        POST /v1/realtime/calls and what is done with a call

Sound is bytes of a fixed length that nobody hears: a function of the text. No session notices speech by itself (its
`turn_detection` is null, and stays without effect): the client commits its sound and asks for a response.
"""
