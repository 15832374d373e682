"""Every operation of the official SDK against the fake, by the SDK's own method, with arguments made from their
types: the answer is what the SDK's model says, strictly."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import NoneType

from host.fakes import FakeOpenAI
from tests.fakes.openai import introspection
from tests.fakes.openai.introspection import DOCUMENT, FILE, Method, methods
from tests.fakes.openai.strictness import mistakes

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello"}], "store": True}
RESPONSE = {"model": "gpt-4o", "input": "Say hello"}
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
ITEM = {"type": "message", "role": "user", "content": "Say hello"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ROWS = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": 1}}]}}


class World:
    """One fake, its client, and what an operation needs there before it can be asked for."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self.fake = fake
        self.client = openai.OpenAI(
            base_url=fake.url + "/v1", api_key="sk-test", admin_api_key="sk-admin-test", max_retries=0
        )
        self.heard: list[httpx2.Response] = []
        self.client._client.event_hooks = {"response": [self.heard.append]}
        known = [one for one in methods().values() if not one.name.startswith(("beta.chat.", "beta.responses."))]
        self.at = {(one.verb, one.path): one for one in known}

    def ask(self, method: Method, within: dict[str, str] | None = None) -> Any:
        """Calls the method, on objects that are made for it."""
        prepared = PREPARED[method.name](self) if method.name in PREPARED else {}
        path = self.objects(method.path, {**(within or {}), **prepared})
        given = method.arguments(lambda name: path.get(name) or (TEXTS[name](self) if name in TEXTS else "text"))
        given |= {**prepared, **(BODIES[method.name](self, path) if method.name in BODIES else {})}
        function: Any = self.client
        for part in method.name.split("."):
            function = getattr(function, part)
        return function(**given)

    def objects(self, path: str, within: dict[str, str]) -> dict[str, str]:
        """Every object that a path goes through, by the name of its parameter."""
        found = dict(within)
        steps = path.split("/")
        for at, step in enumerate(steps):
            if step.startswith("{") and step[1:-1] not in found:
                found[step[1:-1]] = self.an_object("/".join(steps[:at]), step[1:-1], found)
        return found

    def an_object(self, collection: str, name: str, within: dict[str, str]) -> str:
        if (seeded := SEEDED.get(collection)) is not None:
            return seeded
        own = f"/organization{collection}" if collection.startswith("/projects") else collection
        maker = self.at.get(("POST", own)) or self.at.get(("POST", collection))
        found = self.ask(maker, within) if maker else self.ask(self.at["GET", own], within).data[0]
        return str(NAMES.get(name, lambda one: one.id)(found))

    def file(self, content: bytes = b"{}", purpose: Any = "assistants") -> str:
        return self.client.files.create(file=("a.jsonl", content), purpose=purpose).id

    def make(self, name: str) -> str:
        return str(self.ask(methods()[name]).id)

    def run(self, **more: Any) -> dict[str, str]:
        """A run that has gone as far as it goes by itself."""
        runs = self.client.beta.threads.runs
        made = self.client.beta.threads.create_and_run_poll(assistant_id=self.make("beta.assistants.create"), **more)
        assert runs.retrieve(made.id, thread_id=made.thread_id).id == made.id
        return {"thread_id": made.thread_id, "run_id": made.id}

    def run_that_asks(self) -> dict[str, Any]:
        found = self.run(tools=[TOOL], tool_choice="required", thread={"messages": [{"role": "user", "content": "Hi"}]})
        run = self.client.beta.threads.runs.retrieve(found["run_id"], thread_id=found["thread_id"])
        assert run.required_action
        asked = run.required_action.submit_tool_outputs.tool_calls
        return {**found, "tool_outputs": [{"tool_call_id": one.id, "output": "sunny"} for one in asked]}

    def step(self) -> dict[str, str]:
        found = self.run(thread={"messages": [{"role": "user", "content": "Hi"}]})
        return {**found, "step_id": self.client.beta.threads.runs.steps.list(**found).data[0].id}

    def graded(self) -> dict[str, str]:
        """An eval's run with an output item."""
        eval_id = self.make("evals.create")
        runs = self.client.evals.runs
        run: Any = runs.create(eval_id, data_source=ROWS)  # type: ignore[arg-type]
        while run.status != "completed":
            run = runs.retrieve(run.id, eval_id=eval_id)
        item = runs.output_items.list(run.id, eval_id=eval_id).data[0]
        return {"eval_id": eval_id, "run_id": run.id, "output_item_id": item.id}

    def tuned(self) -> str:
        """The name of a model that fine-tuning made."""
        jobs = self.client.fine_tuning.jobs
        job = jobs.create(model="gpt-4o", training_file=self.file(purpose="fine-tune"))
        while job.status != "succeeded":
            job = jobs.retrieve(job.id)
        return str(job.fine_tuned_model)

    def in_the_background(self) -> dict[str, str]:
        return {"response_id": self.client.responses.create(**RESPONSE, background=True).id}  # type: ignore[arg-type]

    def in_conversation(self) -> dict[str, str]:
        """A session of an agent with a turn."""
        sessions = self.client.beta.agents.sessions
        session: Any = sessions.create(environment={"type": "none"}, agent={"model": "gpt-4o"}, input="Say hello")  # type: ignore[call-overload]
        return {"session_id": session.id, "turn_id": sessions.turns.list(session.id).data[0].id}

    def finished_video(self) -> dict[str, str]:
        return {"video_id": self.client.videos.create_and_poll(prompt="a cat").id}


# What is there from the beginning.
SEEDED = {
    "/safety/alerts": "alert_1",
    "/safety/cases": "case_1",
    "/chatkit/threads": "cthr_1",
    "/fine_tuning/checkpoints": "ft:gpt-4o:org::1",
}
# Where the identifier of a new object is, if not in `id`.
NAMES: dict[str, Callable[[Any], str]] = {
    "session_id": lambda one: one.session.id if hasattr(one, "transport") else one.id,
    "version": lambda one: one.version,
    "role_id": lambda one: one.role.id if hasattr(one, "role") else one.id,
    "user_id": lambda one: one.user_id if one.object == "group.user" else one.id,
    "group_id": lambda one: one.group_id if hasattr(one, "group_id") else one.id,
    "item_id": lambda one: one.data[0].id if hasattr(one, "data") else one.id,
    "permission_id": lambda one: one.data[0].id,
    "call_id": lambda one: one.response.headers["location"].rpartition("/")[2],
}
# The values of parameters that name something else.
TEXTS: dict[str, Callable[[World], str]] = {
    "role_id": lambda world: world.make("admin.organization.roles.create"),
    "user_id": lambda world: world.client.admin.organization.users.list().data[0].id,
    "group_id": lambda world: world.make("admin.organization.groups.create"),
    "assistant_id": lambda world: world.make("beta.assistants.create"),
    "file_id": lambda world: world.file(),
    "training_file": lambda world: world.file(purpose="fine-tune"),
    "input_file_id": lambda world: world.file(json.dumps(LINE).encode(), "batch"),
    "model": lambda world: "gpt-4o",
}
# What has to have happened before.
PREPARED: dict[str, Callable[[World], dict[str, Any]]] = {
    "responses.cancel": World.in_the_background,
    "beta.responses.cancel": World.in_the_background,
    "beta.threads.runs.submit_tool_outputs": World.run_that_asks,
    "beta.threads.runs.steps.list": World.run,
    "beta.threads.runs.steps.retrieve": World.step,
    "evals.runs.output_items.retrieve": World.graded,
    "beta.agents.sessions.turns.retrieve": World.in_conversation,
    "beta.agents.sessions.turns.items.list": World.in_conversation,
    "beta.agents.sessions.items.list": lambda world: {"session_id": world.in_conversation()["session_id"]},
    "beta.agents.sessions.events.stream": lambda world: {"session_id": world.in_conversation()["session_id"]},
    "videos.download_content": World.finished_video,
    "models.delete": lambda world: {"model": world.tuned()},
}
# The arguments that no type tells.
BODIES: dict[str, Callable[[World, dict[str, str]], dict[str, Any]]] = {
    **dict.fromkeys(("chat.completions.create", "beta.chat.completions.create"), lambda *_: CHAT),
    **dict.fromkeys(("responses.create", "beta.responses.create"), lambda *_: RESPONSE),
    **dict.fromkeys(("responses.compact", "beta.responses.compact"), lambda *_: RESPONSE),
    "uploads.create": lambda *_: {"bytes": len(FILE[1])},
    "batches.create": lambda *_: {"endpoint": "/v1/chat/completions"},
    "images.edit": lambda *_: {"model": "gpt-image-1"},
    "embeddings.create": lambda *_: {"encoding_format": "float"},
    "conversations.items.create": lambda *_: {"items": [ITEM]},
    "fine_tuning.checkpoints.permissions.create": lambda *_: {"project_ids": ["proj_1"]},
    "webhooks.create": lambda *_: {"event_types": ["batch.completed"], "url": "https://example.com/hook"},
    "containers.files.create": lambda *_: {"file": FILE},
    "realtime.calls.create": lambda *_: {"sdp": "v=0\r\n"},
    "skills.update": lambda *_: {"default_version": "1"},
    "admin.organization.projects.users.create": lambda world, _: {"user_id": TEXTS["user_id"](world)},
    "vector_stores.file_batches.create": lambda world, _: {"file_ids": [world.file()]},
    "skills.versions.delete": lambda world, path: {
        "version": world.client.skills.versions.create(path["skill_id"], files=[FILE]).version
    },
    "uploads.complete": lambda world, path: {
        "part_ids": [world.client.uploads.parts.create(path["upload_id"], data=FILE).id]
    },
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with FakeOpenAI() as fake, warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        yield World(fake)


def mistakes_of(world: World, method: Method) -> list[str]:
    """What is wrong with the answer."""
    world.fake.reset()
    try:
        answer = world.ask(method)
    except openai.OpenAIError as error:
        return [f"{type(error).__name__}: {error}"]
    kind, response = method.answer, world.heard[-1]
    if isinstance(answer, openai.Stream):
        events = list(answer)
        return [words for one in events for words in mistakes(one.to_dict(), kind)] if events else ["no event"]
    if kind is NoneType:
        return [] if answer is None else ["there is an answer, where there is none to be"]
    if kind is str or "Binary" in str(kind):
        return [] if response.content else ["the answer is empty"]
    if method.page is not None:
        return [words for one in response.json()["data"] for words in mistakes(one, kind)]
    return mistakes(response.json(), kind)


def test_every_operation_of_the_sdk_is_satisfied(world: World) -> None:
    wrong = {name: found for name, one in methods().items() if (found := mistakes_of(world, one))}
    assert wrong == {}
    assert len(methods()) == 396


@pytest.mark.slow
def test_the_specification_is_that_of_the_installed_sdk() -> None:
    same = DOCUMENT.read_text() == introspection.document()  # apart, for a difference of 400 KB takes long to show
    assert same, "run: python -m tests.fakes.openai.introspection"
