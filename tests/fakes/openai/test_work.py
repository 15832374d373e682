"""What OpenAI does in the background: batches, runs, responses, fine-tuning, evals, videos, and the SDK's helpers for them."""

from __future__ import annotations

import io
import json
from typing import Any

import openai
import pytest
from openai import AssistantEventHandler
from openai.types.beta.assistant_stream_event import AssistantStreamEvent

from tests.fakes.openai.strictness import mistakes

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASK: Any = [{"role": "user", "content": "How is the weather?"}]


def upload(client: openai.OpenAI, content: bytes, purpose: Any = "batch") -> str:
    return client.files.create(file=("in.jsonl", content), purpose=purpose).id


def line(number: int, **body: Any) -> bytes:
    url = "/v1/chat/completions"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"number {number}"}], **body}
    return json.dumps({"custom_id": str(number), "method": "POST", "url": url, "body": body}).encode()


def batch(client: openai.OpenAI, *lines: bytes, **more: Any) -> openai.types.Batch:
    source = upload(client, b"\n".join(lines))
    return client.batches.create(completion_window="24h", endpoint="/v1/chat/completions", input_file_id=source, **more)


def until(look: Any, *ended: str) -> tuple[Any, list[str]]:
    """Looks until the status is one of `ended`. Returns what was seen last, and every status."""
    seen: list[str] = []
    while not seen or seen[-1] not in ended:
        found = look()
        seen.append(found.status)
        assert len(seen) < 10, seen
    return found, seen


# batches


def test_a_batch_is_answered_by_the_fake_itself(client):
    made = batch(client, line(1), line(2), line(3, temperature=9), metadata={"a": "b"})
    assert (made.status, made.request_counts.total, made.metadata) == ("validating", 0, {"a": "b"})
    done, seen = until(lambda: client.batches.retrieve(made.id), "completed")
    assert seen == ["in_progress", "finalizing", "completed"]
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (3, 2, 1)
    rows = [json.loads(row) for row in client.files.content(done.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == ["1", "2"]
    alone = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "number 1"}])
    assert rows[0]["response"]["body"] == json.loads(alone.model_dump_json(exclude_unset=True))
    (failed,) = [json.loads(row) for row in client.files.content(done.error_file_id).text.splitlines()]
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("3", 400)
    assert failed["response"]["body"]["error"]["param"] == "temperature"


def test_a_batch_can_be_cancelled_on_its_way_and_not_after(client):
    made = batch(client, line(1))
    assert client.batches.retrieve(made.id).status == "in_progress"
    assert client.batches.cancel(made.id).status == "cancelling"
    ended = client.batches.retrieve(made.id)
    assert (ended.status, ended.output_file_id) == ("cancelled", None)
    with pytest.raises(openai.BadRequestError, match="its status is 'cancelled'"):
        client.batches.cancel(made.id)


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        pytest.param([b"{"], "invalid_json_line", 1, id="a line that is no JSON"),
        pytest.param([line(1), b'{"custom_id": "2"}'], "invalid_request", 2, id="a line that is no request"),
        pytest.param([line(1), line(1)], "duplicate_custom_id", 2, id="one custom_id twice"),
        pytest.param([line(1).replace(b"chat/completions", b"embeddings")], "mismatched_url", 1, id="another endpoint's URL"),
        pytest.param([b""], "empty_file", None, id="no line"),
    ],
)  # fmt: skip
def test_a_wrong_line_fails_the_batch_and_is_named(client, lines, code, at):
    failed = client.batches.retrieve(batch(client, *lines).id)
    assert failed.status == "failed"
    assert [(one.code, one.line) for one in failed.errors.data] == [(code, at)]


def test_a_batch_of_a_file_for_something_else_is_refused(client):
    source = upload(client, line(1), "user_data")
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(completion_window="24h", endpoint="/v1/chat/completions", input_file_id=source)
    assert caught.value.param == "input_file_id"


def test_a_batch_that_nobody_looks_at_expires(client, fake):
    made = batch(client, line(1))
    fake.advance(86_401)
    assert client.batches.retrieve(made.id).status == "expired"


def test_the_output_of_a_batch_expires_when_it_was_asked_to(client, fake):
    made = batch(client, line(1), output_expires_after={"anchor": "created_at", "seconds": 3600})
    done, _ = until(lambda: client.batches.retrieve(made.id), "completed")
    fake.advance(3601)
    with pytest.raises(openai.NotFoundError):
        client.files.content(done.output_file_id)
    assert client.batches.retrieve(made.id).status == "completed"


# runs of assistants


def assistant(client: openai.OpenAI, **more: Any) -> str:
    return client.beta.assistants.create(model="gpt-4o", instructions="Be brief.", **more).id


def test_a_run_writes_a_message_and_has_its_steps(client):
    run = client.beta.threads.create_and_run_poll(assistant_id=assistant(client), thread={"messages": ASK})
    assert (run.status, run.model, run.instructions) == ("completed", "gpt-4o", "Be brief.")
    answer, asked = client.beta.threads.messages.list(run.thread_id).data
    assert (answer.role, answer.run_id, asked.role) == ("assistant", run.id, "user")
    (step,) = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    assert step.step_details.message_creation.message_id == answer.id
    assert run.usage.completion_tokens == len(answer.content[0].text.value.split())


def test_a_run_asks_for_a_function_and_goes_on_with_its_output(client):
    runs = client.beta.threads.runs
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant(client, tools=[TOOL]), thread={"messages": ASK}, tool_choice="required"
    )
    (asked,) = run.required_action.submit_tool_outputs.tool_calls
    assert (run.status, asked.function.name, list(json.loads(asked.function.arguments))) == (
        "requires_action",
        "weather",
        ["city"],
    )
    with pytest.raises(openai.BadRequestError, match="expected one output"):
        runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=[{"tool_call_id": "other", "output": ""}]
        )
    outputs: Any = [{"tool_call_id": asked.id, "output": "sunny"}]
    run = runs.submit_tool_outputs_and_poll(run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs)
    assert (run.status, run.required_action) == ("completed", None)
    written, called = runs.steps.list(run.id, thread_id=run.thread_id).data
    assert (written.type, called.step_details.tool_calls[0].function.output) == ("message_creation", "sunny")
    with pytest.raises(openai.BadRequestError, match="do not accept tool outputs"):
        runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs)


def test_a_run_can_be_cancelled_and_blocks_its_thread_until_then(client):
    runs, thread = client.beta.threads.runs, client.beta.threads.create(messages=ASK)
    run = runs.create(thread.id, assistant_id=assistant(client))
    for busy in (
        lambda: runs.create(thread.id, assistant_id=run.assistant_id),
        lambda: client.beta.threads.messages.create(thread.id, role="user", content="More"),
    ):
        with pytest.raises(openai.BadRequestError, match="already has an active run"):
            busy()
    assert runs.cancel(run.id, thread_id=thread.id).status == "cancelling"
    assert runs.retrieve(run.id, thread_id=thread.id).status == "cancelled"
    assert client.beta.threads.messages.create(thread.id, role="user", content="More").role == "user"


def test_a_run_that_nobody_looks_at_expires(client, fake):
    thread = client.beta.threads.create(messages=ASK)
    run = client.beta.threads.runs.create(thread.id, assistant_id=assistant(client))
    fake.advance(601)
    assert client.beta.threads.runs.retrieve(run.id, thread_id=thread.id).status == "expired"


class Heard(AssistantEventHandler):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.calls: list[Any] = []
        self.ended: list[str] = []

    def on_text_delta(self, delta, snapshot):
        self.text += delta.value

    def on_tool_call_done(self, tool_call):
        self.calls.append(tool_call)

    def on_message_done(self, message):
        self.ended.append(message.content[0].text.value)


def test_the_sdk_s_event_handler_hears_a_run_and_its_function_call(client):
    runs, thread = client.beta.threads.runs, client.beta.threads.create(messages=ASK)
    with runs.stream(
        thread_id=thread.id,
        assistant_id=assistant(client, tools=[TOOL]),
        tool_choice="required",
        event_handler=(first := Heard()),
    ) as stream:
        stream.until_done()
    run = stream.current_run
    assert (run.status, first.text, [one.function.name for one in first.calls]) == ("requires_action", "", ["weather"])
    assert json.loads(first.calls[0].function.arguments).keys() == {"city"}
    outputs: Any = [{"tool_call_id": one.id, "output": "sunny"} for one in first.calls]
    with runs.submit_tool_outputs_stream(
        thread_id=thread.id, run_id=run.id, tool_outputs=outputs, event_handler=(second := Heard())
    ) as stream:
        stream.until_done()
    assert stream.current_run.status == "completed"
    assert second.ended == [second.text]
    assert client.beta.threads.messages.list(thread.id).data[0].content[0].text.value == second.text


def test_every_event_of_a_run_is_what_the_sdk_s_model_says(client):
    made: Any = {"assistant_id": assistant(client), "thread": {"messages": ASK}}
    forced: Any = {**made, "tools": [TOOL], "tool_choice": "required"}
    for given in (made, forced):
        events = list(client.beta.threads.create_and_run(**given, stream=True))
        assert [words for one in events for words in mistakes(one.to_dict(), AssistantStreamEvent)] == []
        assert events[0].event == "thread.created"
        assert events[-1].event in {"thread.run.completed", "thread.run.requires_action"}


# responses and chats


def test_a_response_in_the_background_is_polled_to_its_end(client):
    made = client.responses.create(model="gpt-4o", input="Hello", background=True)
    assert (made.status, made.output, made.background) == ("queued", [], True)
    done, seen = until(lambda: client.responses.retrieve(made.id), "completed")
    assert seen == ["in_progress", "completed"]
    assert done.output_text


def test_a_response_in_the_background_can_be_cancelled(client):
    made = client.responses.create(model="gpt-4o", input="Hello", background=True)
    assert client.responses.cancel(made.id).status == "cancelled"
    assert client.responses.retrieve(made.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(client.responses.create(model="gpt-4o", input="Hello").id)


def test_the_events_of_a_response_in_the_background_can_be_taken_up_again(client):
    events = list(client.responses.create(model="gpt-4o", input="Hello", background=True, stream=True))
    assert [one.type for one in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    again = list(client.responses.retrieve(events[0].response.id, stream=True, starting_after=4))
    assert again == events[5:]


def test_the_sdk_s_stream_helpers_read_responses_and_chats(client):
    with client.responses.stream(model="gpt-4o", input="Hello") as stream:
        texts = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == texts
    with client.chat.completions.stream(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}]) as chat:
        words = "".join(one.delta for one in chat if one.type == "content.delta")
        assert chat.get_final_completion().choices[0].message.content == words


def test_input_tokens_are_counted_and_a_conversation_is_compacted(client):
    counted = client.responses.input_tokens.count(model="gpt-4o", input="one two three", instructions="four")
    assert counted.input_tokens == 4
    (item,) = client.responses.compact(model="gpt-4o", input="one two three").output
    assert (item.type, len(item.encrypted_content)) == ("compaction", 64)


def test_a_response_adds_to_its_conversation(client):
    conversation = client.conversations.create(items=[{"type": "message", "role": "user", "content": "Hello"}])
    first = client.responses.create(model="gpt-4o", input="And you?", conversation=conversation.id)
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [one.role for one in items] == ["user", "user", "assistant"]
    assert items[-1].content[0].text == first.output_text
    assert first.conversation.id == conversation.id
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    assert len(list(client.conversations.items.list(conversation.id))) == 2
    client.conversations.delete(conversation.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-4o", input="And you?", conversation=conversation.id)


# fine-tuning, evals, videos


def test_a_job_makes_a_model_with_events_checkpoints_and_results(client):
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="gpt-4o", training_file=upload(client, b'{"messages": []}', "fine-tune"), suffix="mine")
    job, seen = until(lambda: jobs.retrieve(job.id), "succeeded")
    assert seen == ["queued", "running", "succeeded"]
    assert job.fine_tuned_model in {one.id for one in client.models.list()}
    assert next(iter(jobs.list_events(job.id))).message == "The job has successfully completed"
    assert len(jobs.checkpoints.list(job.id).data) == 2
    assert client.files.content(job.result_files[0]).text.startswith("step,")
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(job.fine_tuned_model)


def test_a_job_waits_while_it_is_paused_and_can_be_cancelled(client):
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="gpt-4o", training_file=upload(client, b"{}", "fine-tune"))
    jobs.pause(job.id)
    assert {jobs.retrieve(job.id).status for _ in range(4)} == {"queued"}
    jobs.resume(job.id)
    assert jobs.retrieve(job.id).status == "running"
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        jobs.resume(job.id)


def test_a_training_file_that_is_no_jsonl_fails_its_job(client):
    job = client.fine_tuning.jobs.create(model="gpt-4o", training_file=upload(client, b"no", "fine-tune"))
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert (failed.status, failed.error.code) == ("failed", "invalid_training_file")


def test_an_eval_s_run_grades_each_row(client):
    criterion: Any = {"type": "string_check", "name": "same", "input": "a", "operation": "eq", "reference": "a"}
    config: Any = {"type": "custom", "item_schema": {"type": "object"}}
    made = client.evals.create(data_source_config=config, testing_criteria=[criterion])
    rows = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": 1}}, {"item": {"a": 2}}]}}
    run = client.evals.runs.create(made.id, data_source=rows)
    done, seen = until(lambda: client.evals.runs.retrieve(run.id, eval_id=made.id), "completed")
    assert (seen, done.result_counts.total, done.result_counts.passed) == (["in_progress", "completed"], 2, 2)
    items = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    assert [one.datasource_item for one in items] == [{"a": 1}, {"a": 2}]


def test_a_video_is_downloaded_when_it_is_done_and_remixed(client):
    queued = client.videos.create(prompt="a cat")
    with pytest.raises(openai.BadRequestError, match="not ready"):
        client.videos.download_content(queued.id)
    done = client.videos.poll(queued.id)
    assert (done.status, done.progress) == ("completed", 100)
    assert client.videos.download_content(done.id).content[4:8] == b"ftyp"
    assert client.videos.download_content(done.id, variant="thumbnail").content.startswith(b"\x89PNG")
    assert client.videos.remix(done.id, prompt="a dog").remixed_from_video_id == done.id
    client.videos.delete(done.id)
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(done.id)


# vector stores


def test_a_store_is_filled_by_the_sdk_s_helpers_and_searched(client):
    store = client.vector_stores.create(name="facts")
    one = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("lions.txt", b"The lion sleeps tonight"), attributes={"kind": "cat"}
    )
    assert one.status == "completed"
    many = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("dogs.txt", b"The dog barks"), ("birds.txt", b"A bird sings tonight")]
    )
    assert (many.status, many.file_counts.completed) == ("completed", 2)
    found = client.vector_stores.search(store.id, query="Who sleeps tonight?").data
    assert [result.filename for result in found] == ["lions.txt", "birds.txt"]
    assert found[0].score > found[1].score
    filters: Any = {"type": "eq", "key": "kind", "value": "dog"}
    assert client.vector_stores.search(store.id, query="lion", filters=filters).data == []
    assert client.vector_stores.retrieve(store.id).file_counts.total == 3
    assert (
        client.vector_stores.files.content(one.id, vector_store_id=store.id).data[0].text == "The lion sleeps tonight"
    )


def test_a_batch_of_files_can_be_cancelled(client):
    store = client.vector_stores.create()
    made = client.vector_stores.file_batches.create(store.id, file_ids=[upload(client, b"a", "assistants")])
    assert (made.status, made.file_counts.in_progress) == ("in_progress", 1)
    ended = client.vector_stores.file_batches.cancel(made.id, vector_store_id=store.id)
    assert (ended.status, ended.file_counts.cancelled) == ("cancelled", 1)


def test_a_store_expires(client, fake):
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    fake.advance(86_400)
    assert client.vector_stores.retrieve(store.id).status == "expired"


# uploads


def test_a_file_in_parts_is_put_together_in_the_order_of_its_parts(client):
    made = client.uploads.create(bytes=6, filename="a.txt", mime_type="text/plain", purpose="user_data")
    last, first = (client.uploads.parts.create(made.id, data=data).id for data in (b"def", b"abc"))
    done = client.uploads.complete(made.id, part_ids=[first, last])
    assert (done.status, done.file.filename) == ("completed", "a.txt")
    assert client.files.content(done.file.id).content == b"abcdef"
    with pytest.raises(openai.BadRequestError, match="is completed"):
        client.uploads.parts.create(made.id, data=b"x")


def test_the_sdk_s_helper_uploads_a_large_file_in_chunks(client):
    content = bytes(range(256)) * 40
    done = client.uploads.upload_file_chunked(
        file=io.BytesIO(content).getvalue(),
        filename="a.bin",
        bytes=len(content),
        mime_type="text/plain",
        purpose="user_data",
        part_size=1000,
    )
    assert client.files.content(done.file.id).content == content


def test_an_upload_of_other_bytes_than_it_was_made_for_is_refused_and_one_left_alone_expires(client, fake):
    made = client.uploads.create(bytes=6, filename="a.txt", mime_type="text/plain", purpose="user_data")
    part = client.uploads.parts.create(made.id, data=b"abc").id
    with pytest.raises(openai.BadRequestError) as caught:
        client.uploads.complete(made.id, part_ids=[part])
    assert caught.value.param == "part_ids"
    fake.advance(3600)
    with pytest.raises(openai.BadRequestError, match="is expired"):
        client.uploads.complete(made.id, part_ids=[part, part])
    assert (
        client.uploads.cancel(client.uploads.create(bytes=1, filename="a", mime_type="b", purpose="batch").id).status
        == "cancelled"
    )
