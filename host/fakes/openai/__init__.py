"""OpenAI's API as a fake.

fake.py        FakeOpenAI: the table of endpoints and the application
faults.py      scripted faults
shapes.py      the forms of other servers of the same API: Azure, Ollama, …
control.py     `/`, `/health` and `/__parlel/…`
chat.py, completions.py, responses.py, analysis.py, media.py, resources.py
               the endpoints, by resource
realtime/      the WebSockets, and the REST beside them
structured.py  instances of JSON Schemas, function tools
text.py        deterministic text, event streams, usage
call.py        the call that a handler gets, and its parameters
errors.py      OpenAI's errors

A new endpoint is a function `(ApiCall) -> FakeResponse` and a row in fake.py's table.
"""
