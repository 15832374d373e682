"""Runs of assistants on threads, and their steps (platform.openai.com/docs/api-reference/runs).

A run goes on by one step each time that somebody looks at it: queued, in_progress, then completed with a message, or
requires_action where `tool_choice` forces a function. With `stream` it does all of that at once, as events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable, Params
from host.fakes.openai.specification import operations
from host.fakes.openai.store import Stored
from host.fakes.openai.structured import forced_function, function_arguments, function_of
from host.fakes.openai.text import count, event, event_stream, identifier, requested_words, seed_of, sentence, tokens
from host.fakes.openai.threads import MESSAGES, RUNS, THREADS, add_message, check_idle, make_thread, said_in

_ASSISTANTS = "/v1/assistants"
_RUN = f"{RUNS}/{{run_id}}"
_STEPS = f"{_RUN}/steps"
_OF_ASSISTANT = ("model", "instructions", "tools", "temperature", "top_p", "response_format")
_DONE = b"event: done\ndata: [DONE]\n\n"

_Event = tuple[str, dict[str, Any]]


def create_run(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    rest.find(call, THREADS, call.path["thread_id"])
    check_idle(call)
    run = _make(call, params)
    for message in params.objects("additional_messages"):
        add_message(call, message)
    return _begun(call, run, stream=params.flag("stream"))


def create_thread_and_run(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    given = params.mapping("thread")
    _assistant(call, params)
    thread = make_thread(call, given, Params(given).objects("messages"))
    return _begun(call, _make(call, params), stream=params.flag("stream"), before=[("thread.created", thread.fields)])


def _assistant(call: ApiCall, params: Params) -> Stored:
    name = params.required_text("assistant_id")
    found = call.store.find(_ASSISTANTS, name)
    if found is None:
        raise errors.not_found(f"No assistant found with id '{name}'.", param="assistant_id")
    return found


def _make(call: ApiCall, params: Params) -> Stored:
    assistant = _assistant(call, params)
    usual: dict[str, Any] = {
        "tools": [],
        "instructions": "",
        **{name: assistant.fields[name] for name in _OF_ASSISTANT if name in assistant.fields},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "truncation_strategy": {"type": "auto"},
    }
    usual.setdefault("response_format", "auto")
    given = {name: value for name, value in params.all().items() if name not in {"thread", "stream"}}
    if extra := given.pop("additional_instructions", ""):
        given["instructions"] = f"{given.get('instructions', usual['instructions'])}\n{extra}".strip()
    forced_function([function_of(tool) for tool in given.get("tools", usual["tools"])], given.get("tool_choice"))
    return rest.make(call, RUNS, {**usual, **given}, object="thread.run", status="queued")


def _begun(call: ApiCall, run: Stored, *, stream: bool, before: Iterable[_Event] = ()) -> FakeResponse:
    """The answer to a new run: its events, or the run with its work before it."""
    call.path["run_id"] = run.id
    if not stream:
        run.steps = [lambda: _start(call, run), lambda: list(_work(call, run))]
        return rest.answer(call, run.fields)
    opening = [*before, ("thread.run.created", dict(run.fields)), ("thread.run.queued", dict(run.fields))]
    return _streamed(call, [*opening, *_running(call, run)])


def _streamed(call: ApiCall, events: Iterable[_Event]) -> FakeResponse:
    return event_stream([*(event(_shown(call, name, fields), name) for name, fields in events), _DONE])


def _shown(call: ApiCall, name: str, fields: dict[str, Any]) -> Any:
    """The object of an event as its own operation shows it. A delta is whole already."""
    if name.endswith(".delta"):
        return fields
    path = {"thread.created": f"{THREADS}/{{thread_id}}", "thread.message": f"{MESSAGES}/{{message_id}}"}
    path |= {"thread.run.step": f"{_STEPS}/{{step_id}}"}
    found = path.get(name) or path.get(name.rpartition(".")[0]) or _RUN
    return rest.shown(call, fields, operations()["GET", found].answer)


def _start(call: ApiCall, run: Stored) -> None:
    run.become(status="in_progress", started_at=call.store.now)


def _running(call: ApiCall, run: Stored) -> Iterator[_Event]:
    _start(call, run)
    yield "thread.run.in_progress", dict(run.fields)
    yield from _work(call, run)


def _work(call: ApiCall, run: Stored) -> Iterator[_Event]:
    """What a run in progress does, to its end or until it needs the output of a tool."""
    function = None
    if "outputs" not in run.fields:
        tools = [function_of(tool) for tool in run.fields["tools"]]
        function = forced_function(tools, run.fields.get("tool_choice"))
    texts = said_in(call.store.all(rest.collection(call, MESSAGES)))
    seed = seed_of("run", run.fields.get("model"), run.fields["instructions"], texts, run.fields.get("outputs"))
    if function:
        yield from _call_function(call, run, function, seed)
    else:
        yield from _write_message(call, run, texts, seed)


def _step(call: ApiCall, run: Stored, kind: str, details: dict[str, Any]) -> Stored:
    shown = {"run_id": run.id, "assistant_id": run.fields["assistant_id"], "type": kind, "status": "in_progress"}
    return rest.make(call, _STEPS, shown, object="thread.run.step", step_details={"type": kind, kind: details})


def _usage(read: int, spent: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": spent, "total_tokens": read + spent}


def _call_function(call: ApiCall, run: Stored, function: dict[str, Any], seed: bytes) -> Iterator[_Event]:
    arguments = function_arguments(function, seed)
    asked = {"name": function["name"], "arguments": arguments}
    tool_call = {"id": identifier("call_", seed_of(run.id)), "type": "function", "function": asked}
    empty: dict[str, Any] = {**tool_call, "function": {**asked, "arguments": ""}}
    step = _step(call, run, "tool_calls", {})
    step.become(step_details={"type": "tool_calls", "tool_calls": []})
    yield "thread.run.step.created", dict(step.fields)
    yield "thread.run.step.in_progress", dict(step.fields)
    for piece in (empty, *({"function": {"arguments": word}} for word in tokens(arguments))):
        delta = {"type": "tool_calls", "tool_calls": [{"index": 0, "type": "function", **piece}]}
        shown = {"id": step.id, "object": "thread.run.step.delta", "delta": {"step_details": delta}}
        yield "thread.run.step.delta", shown
    step.become(step_details={"type": "tool_calls", "tool_calls": [tool_call]})
    wanted = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [tool_call]}}
    run.become(status="requires_action", required_action=wanted)
    yield "thread.run.requires_action", dict(run.fields)


def _write_message(call: ApiCall, run: Stored, texts: list[str], seed: bytes) -> Iterator[_Event]:
    text = sentence(seed, requested_words(" ".join(texts[-1:])))
    own = {"assistant_id": run.fields["assistant_id"], "run_id": run.id, "status": "in_progress"}
    message = add_message(call, {"role": "assistant", "content": text}, **own)
    step = _step(call, run, "message_creation", {"message_id": message.id})
    yield "thread.run.step.created", dict(step.fields)
    yield "thread.run.step.in_progress", dict(step.fields)
    yield "thread.message.created", {**message.fields, "content": []}
    yield "thread.message.in_progress", {**message.fields, "content": []}
    for word in tokens(text):
        part = {"index": 0, "type": "text", "text": {"value": word}}
        yield "thread.message.delta", {"id": message.id, "object": "thread.message.delta", "delta": {"content": [part]}}
    usage = _usage(sum(count(said) for said in texts), count(text))
    message.become(status="completed", completed_at=call.store.now)
    yield "thread.message.completed", dict(message.fields)
    step.become(status="completed", completed_at=call.store.now, usage=usage)
    yield "thread.run.step.completed", dict(step.fields)
    run.become(status="completed", completed_at=call.store.now, usage=usage)
    yield "thread.run.completed", dict(run.fields)


def cancel_run(call: ApiCall) -> FakeResponse:
    """A run on its way is `cancelling`, and `cancelled` when it is looked at again."""
    run = rest.found(call, _RUN)
    rest.check_not_ended(run, "cancel")
    run.become(status="cancelling", required_action=None)
    run.steps = [lambda: run.become(status="cancelled", cancelled_at=call.store.now)]
    return rest.answer(call, run.fields)


def submit_tool_outputs(call: ApiCall) -> FakeResponse:
    run = rest.found(call, _RUN)
    params = rest.body(call)
    if run.fields["status"] != "requires_action":
        message = f"Runs in status '{run.fields['status']}' do not accept tool outputs."
        raise errors.ApiError(400, message, code="invalid_state")
    outputs = {str(one.get("tool_call_id")): str(one.get("output") or "") for one in params.objects("tool_outputs")}
    (asked,) = run.fields["required_action"]["submit_tool_outputs"]["tool_calls"]
    if set(outputs) != {asked["id"]}:
        raise errors.wrong_value("tool_outputs", f"expected one output, for the tool call {asked['id']}.")
    (step,) = [one for one in call.store.all(rest.collection(call, _STEPS)) if not one.has_ended]
    done = {**asked, "function": {**asked["function"], "output": outputs[asked["id"]]}}
    step.become(status="completed", completed_at=call.store.now, usage=_usage(0, count(asked["function"]["arguments"])))
    step.become(step_details={"type": "tool_calls", "tool_calls": [done]})
    run.become(status="queued", required_action=None, outputs=outputs)
    if not params.flag("stream"):
        run.steps = [lambda: _start(call, run), lambda: list(_work(call, run))]
        return rest.answer(call, run.fields)
    opening = [("thread.run.step.completed", dict(step.fields)), ("thread.run.queued", dict(run.fields))]
    return _streamed(call, [*opening, *_running(call, run)])


ENDPOINTS: EndpointTable = {
    f"{THREADS}/runs": {"POST": create_thread_and_run},
    RUNS: {"POST": create_run},
    f"{_RUN}/cancel": {"POST": cancel_run},
    f"{_RUN}/submit_tool_outputs": {"POST": submit_tool_outputs},
}
