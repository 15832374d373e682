"""Makes the host calls that its input lists, and returns what each of them returned.

    {"calls": [["secrets.get", "TOKEN"], ["fetch.request", {"method": "GET", "url": "…", "headers": {"x": "$0"}}],
               ["streaming.request", "…"], ["streaming.read", "$2.handle"]], "repeat": 1, "return": {"status": 200}}

An argument that is no text is sent as JSON. `$N` and `$N.field` in any text of it stand for what call N returned. A
call of `streaming.read_all` reads to the end; one of `echo` returns its argument. The output is `return` with the answers as its `data`: texts that are
JSON objects as those objects, a secret as `{"ok": text}` or `{"err": text}`. With `spin`, it never returns. With
`backwards`, all that it was told is returned as one text, last character first: what redaction would find in its output
it does not find there.
"""

import re
from json import dumps, loads

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, fetch, log, output, streaming, websocket
from wit_world.imports import read as secrets

_REFERENCE = re.compile(r"\$(\d+)(?:\.([$\w]+))?")


class Run(exports.Run):
    def run(self, input: str) -> str:  # noqa: A002 - the contract's name
        asked = loads(input)
        answers = []
        for name, *arguments in asked["calls"]:
            texts = [_text(argument, answers) for argument in arguments]
            for _ in range(asked.get("repeat", 1)):
                answer = CALLS[name](*texts)
            answers.append(_parsed(answer))
        while asked.get("spin"):
            pass
        if "raw" in asked:
            return _text(asked["raw"], answers)
        if asked.get("backwards"):
            return dumps({"status": 200, "data": repr(answers)[::-1]})
        return dumps({"data": answers, **asked.get("return", {"status": 200})})


def _secret(name):
    try:
        return dumps({"ok": secrets.get(name)})
    except Err as refused:
        return dumps({"err": refused.value})


def _read_all(handle):
    pieces = []
    while True:
        answer = loads(streaming.read(handle))
        if "error" in answer or answer["done"]:
            return dumps({"pieces": pieces, "end": answer})
        pieces.append(answer["data"])


CALLS = {
    "fetch.request": fetch.request,
    "streaming.request": streaming.request,
    "streaming.read": streaming.read,
    "streaming.read_all": _read_all,
    "streaming.close": streaming.close,
    "secrets.get": _secret,
    "output.emit": output.emit,
    "config.get": config.get,
    "log.write": log.write,
    "websocket.connect": websocket.connect,
    "websocket.send": websocket.send,
    "websocket.receive": lambda handle, ms: websocket.receive(handle, int(ms)),
    "websocket.close": websocket.close,
    "echo": str,
}


def _text(argument, answers):
    text = argument if isinstance(argument, str) else dumps(argument)

    def found(match):
        answer = answers[int(match[1])]
        if isinstance(answer, dict) and "ok" in answer and match[2] is None:
            return answer["ok"]
        return str(answer[match[2]] if match[2] else answer)

    return _REFERENCE.sub(found, text)


def _parsed(answer):
    if not isinstance(answer, str):
        return answer
    try:
        parsed = loads(answer)
    except ValueError:
        return answer
    return parsed if isinstance(parsed, dict) else answer
