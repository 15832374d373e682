"""OpenAI's API as a fake.

fake.py        FakeOpenAI: the table of endpoints and the application
faults.py      scripted faults
shapes.py      the forms of other servers of the same API: Azure, Ollama, …
control.py     `/`, `/health` and `/__parlel/…`
chat.py, completions.py, responses.py, analysis.py, media.py
               what models answer
realtime/      the WebSockets, and the REST beside them
specification.json, specification.py
               every operation, and the models of their answers, from OpenAI's official Python SDK
rest.py, resources.py
               the operations on stored objects, all alike, and the particulars of each kind of object
store.py       the stored objects, and the clock by which they age
files.py, batches.py, vector_stores.py, threads.py, runs.py, conversations.py, stored_chats.py, fine_tuning.py, …
               the objects that do more than to be there
structured.py  instances of JSON Schemas, function tools
text.py        deterministic text, event streams, usage, pages
call.py        the call that a handler gets, and its parameters
errors.py      OpenAI's errors

Every operation of the specification is served. One that does more is a function `(ApiCall) -> FakeResponse`, and a row
in the ENDPOINTS of its file.
"""
