"""Stored objects as all of them are: made, listed in pages, read, changed, deleted; and what is refused."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from host.fakes.openai.fake import EndpointRoutes
from host.fakes.openai.specification import completed, operations

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ADMIN = {"authorization": "Bearer sk-admin-test"}


@pytest.fixture
def admin(fake):
    with openai.OpenAI(
        base_url=fake.url + "/v1", api_key="sk-test", admin_api_key="sk-admin-test", max_retries=0
    ) as made:
        yield made.admin.organization


# pages


def test_a_list_is_read_page_by_page_in_both_directions_and_orders(client):
    ids = [client.vector_stores.create(name=f"store {number}").id for number in range(5)]
    newest = client.vector_stores.list(limit=2)
    assert ([one.id for one in newest.data], newest.has_more) == (ids[:2:-1], True)
    assert [one.id for one in newest] == ids[::-1], "the SDK turns the pages by `after`"
    before = client.vector_stores.list(limit=2, order="asc", before=ids[4])
    assert ([one.id for one in before.data], before.has_more) == (ids[2:4], True)
    between = client.vector_stores.list(order="asc", after=ids[0], before=ids[3])
    assert ([one.id for one in between.data], between.has_more) == (ids[1:3], False)


def test_the_pages_of_administration_have_a_next_and_a_last_id(admin):
    names = [f"group {number}" for number in range(3)]
    for name in names:
        admin.groups.create(name=name)
    page = admin.groups.list(limit=2, order="asc")
    assert ([one.name for one in page.data], page.next) == (names[:2], page.data[-1].id)
    assert [one.name for one in page] == names
    for name in names:
        admin.projects.create(name=name)
    assert [one.name for one in admin.projects.list(limit=1)] == names[::-1]


@pytest.mark.parametrize("query", ["limit=0", "order=up", "after=nothing", "before=nothing"])
def test_a_bad_page_of_any_list_is_refused(http, query):
    answer = http.get(f"/v1/vector_stores?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_a_list_shows_what_it_is_asked_for(client):
    chat: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "store": True}
    mine = client.chat.completions.create(**chat, metadata={"of": "me"})
    client.chat.completions.create(**{**chat, "model": "gpt-4.1"}, metadata={"of": "you"})
    assert [one.id for one in client.chat.completions.list(metadata={"of": "me"})] == [mine.id]
    assert [one.model for one in client.chat.completions.list(model="gpt-4.1")] == ["gpt-4.1"]
    assert len(client.chat.completions.list().data) == 2


# refusals


OBJECTS = sorted(
    path
    for method, path in operations()
    if method == "GET" and path.endswith("}") and not operations()[method, path].page
)


@pytest.mark.parametrize("path", OBJECTS)
def test_an_object_that_is_not_there_is_a_404_in_openai_s_shape(http, path):
    headers = ADMIN if operations()["GET", path].admin else {}
    place = "/".join("nothing" if step.startswith("{") else step for step in path.split("/"))
    answer = http.get(place, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (404, "invalid_request_error"), place
    assert "nothing" in error["message"]


MAKERS = sorted(path for (method, path), one in operations().items() if method == "POST" and one.required)


@pytest.mark.parametrize("path", [path for path in MAKERS if "{" not in path])
def test_a_parameter_that_is_missing_is_named(http: httpx2.Client, path: str) -> None:
    known = operations()["POST", path]
    answer = http.post(path, json={"unknown": 1}, headers=ADMIN if known.admin else {})
    error = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    if not known.form:
        assert error["param"] in known.required
        assert error["param"] in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        pytest.param("/v1/vector_stores", {"name": 1}, "name", "invalid_type", id="a number for a string"),
        pytest.param("/v1/vector_stores", {"file_ids": {}}, "file_ids", "invalid_type", id="an object for an array"),
        pytest.param("/v1/assistants", {"model": "m", "tools": [1]}, "tools[0]", "invalid_type", id="a number in an array of objects"),
        pytest.param("/v1/assistants", {"model": "m", "reasoning_effort": "huge"}, "reasoning_effort", "invalid_value", id="none of the choices"),
        pytest.param("/v1/batches", {"completion_window": "24h", "endpoint": "/v1/x", "input_file_id": "f"}, "endpoint", "invalid_value", id="an endpoint that batches have not"),
        pytest.param("/v1/conversations", {"items": "x"}, "items", "invalid_type", id="a string for items"),
        pytest.param("/v1/webhook_endpoints", {"name": "n", "url": "http://x", "event_types": ["batch.completed"]}, "url", "invalid_value", id="a webhook in the clear"),
        pytest.param("/v1/webhook_endpoints", {"name": "n", "url": "https://x", "event_types": ["no"]}, "event_types", "invalid_value", id="an event that is none"),
    ],
)  # fmt: skip
def test_a_parameter_that_does_not_fit_is_named(http, path, body, param, code):
    answer = http.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code), answer.text


def test_what_is_within_an_object_is_gone_with_it(client):
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
    message = client.beta.threads.messages.list(thread.id).data[0]
    client.beta.threads.delete(thread.id)
    with pytest.raises(openai.NotFoundError, match=thread.id):
        client.beta.threads.messages.retrieve(message.id, thread_id=thread.id)


# chats that are kept


def test_a_kept_chat_is_read_changed_and_deleted(client):
    chat: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    kept = client.chat.completions.create(**chat, store=True)
    assert client.chat.completions.retrieve(kept.id).choices == kept.choices
    assert client.chat.completions.update(kept.id, metadata={"a": "b"}).metadata == {"a": "b"}
    (message,) = client.chat.completions.messages.list(kept.id).data
    assert message.content == kept.choices[0].message.content
    client.chat.completions.delete(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(kept.id)
    passing = client.chat.completions.create(**chat)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(passing.id)


# containers, skills


def test_a_container_expires_unless_it_is_used(client, fake):
    container = client.containers.create(name="work")
    fake.advance(1_000)
    file = client.containers.files.create(container.id, file=("a.txt", b"abc"))
    assert (file.path, client.containers.files.content.retrieve(file.id, container_id=container.id).content) == (
        "/mnt/data/a.txt",
        b"abc",
    )
    fake.advance(1_000)
    assert client.containers.retrieve(container.id).status == "running"
    fake.advance(1_000)
    assert client.containers.retrieve(container.id).status == "expired"
    with pytest.raises(openai.BadRequestError, match="has expired"):
        client.containers.files.create(container.id, file=("b.txt", b"abc"))


def test_a_skill_has_numbered_versions_and_one_of_them_is_the_default(client):
    head = b"---\nname: weather\ndescription: Tells the weather\n---\n"
    skill = client.skills.create(files=[("weather/skill.md", head)])
    assert (skill.name, skill.description, skill.default_version) == ("weather", "Tells the weather", "1")
    second = client.skills.versions.create(skill.id, files=[("weather/skill.md", head)])
    assert (second.version, client.skills.retrieve(skill.id).latest_version) == ("2", "2")
    with pytest.raises(openai.BadRequestError, match="default version"):
        client.skills.versions.delete("1", skill_id=skill.id)
    assert client.skills.update(skill.id, default_version="2").default_version == "2"
    assert client.skills.versions.delete("1", skill_id=skill.id).deleted
    assert client.skills.content.retrieve(skill.id).content.startswith(b"PK")


# agents


def test_a_session_answers_what_is_said_and_has_its_events(client):
    agent = client.beta.agents.create(model="gpt-4o", instructions="Be brief.")
    sessions = client.beta.agents.sessions
    none: Any = {"type": "none"}
    session = sessions.create(environment=none, agent_id=agent.id, input="Hello")
    told: Any = [{"role": "user", "content": [{"type": "input_text", "text": "And now?"}]}]
    sessions.events.create(session.id, events=told)
    assert [turn.status for turn in sessions.turns.list(session.id)] == ["completed", "completed"]
    roles = [one.role for one in sessions.items.list(session.id, order="asc")]
    assert roles == ["user", "assistant"] * 2
    kinds = [one.type for one in sessions.events.stream(session.id)]
    assert (kinds[0], kinds[-1], kinds.count("agent.session.turn.completed")) == (
        "agent.session.created",
        "agent.session.idle",
        2,
    )


# pictures


def test_pictures_are_edited_and_varied_from_uploads_and_streamed(client):
    one, other = (
        client.images.edit(image=("a.png", data), prompt="a hat", model="gpt-image-1") for data in (b"1", b"2")
    )
    assert one.data[0].b64_json != other.data[0].b64_json
    assert client.images.create_variation(image=b"1", n=2).data[1].url.endswith(".png")
    events = list(client.images.edit(image=b"1", prompt="a hat", model="gpt-image-1", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


# administration


def test_administration_takes_an_admin_key_and_nothing_else_does(http):
    assert http.get("/v1/organization/projects", headers=ADMIN).status_code == 200
    for path, headers in (("/v1/organization/projects", {}), ("/v1/models", ADMIN)):
        answer = http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


def test_people_are_given_roles_in_the_organization_and_in_projects(admin):
    user = admin.users.list().data[0]
    role = admin.roles.create(role_name="reader", permissions=["api.read"])
    assert admin.users.roles.create(user.id, role_id=role.id).role.id == role.id
    assert [one.id for one in admin.users.roles.list(user.id)] == [role.id]
    project = admin.projects.create(name="secret")
    with pytest.raises(openai.NotFoundError, match="No such user"):
        admin.projects.users.roles.create(user.id, project_id=project.id, role_id=role.id)
    admin.projects.users.create(project.id, role="member", email=user.email)
    own = admin.projects.roles.create(project.id, role_name="writer", permissions=["api.write"])
    admin.projects.users.roles.create(user.id, project_id=project.id, role_id=own.id)
    assert [one.id for one in admin.projects.users.roles.list(user.id, project_id=project.id)] == [own.id]
    admin.users.roles.delete(role.id, user_id=user.id)
    assert list(admin.users.roles.list(user.id)) == []


def test_a_service_account_gets_a_key_that_is_shown_once(admin):
    project = admin.projects.create(name="secret")
    account = admin.projects.service_accounts.create(project.id, name="robot")
    assert account.api_key.value.startswith("sk-svcacct-")
    listed = {one.id: one for one in admin.projects.api_keys.list(project.id)}
    assert "value" not in (listed[account.api_key.id].model_extra or {})
    assert listed[account.api_key.id].redacted_value.endswith(account.api_key.value[-4:])


def test_certificates_are_switched_on_and_off(admin):
    made = admin.certificates.create(certificate="-----BEGIN CERTIFICATE-----", name="mine")
    assert [one.active for one in admin.certificates.activate(certificate_ids=[made.id])] == [True]
    project = admin.projects.create(name="secret")
    admin.projects.certificates.activate(project.id, certificate_ids=[made.id])
    assert [one.active for one in admin.projects.certificates.list(project.id)] == [True]
    assert [one.active for one in admin.certificates.deactivate(certificate_ids=[made.id])] == [False]


def test_a_project_is_archived_with_a_record_of_it(admin):
    project = admin.projects.create(name="secret")
    archived = admin.projects.archive(project.id)
    assert archived.status == "archived"
    assert archived.archived_at
    assert [one.type for one in admin.audit_logs.list()] == ["project.archived", "project.created"]


def test_settings_are_there_from_the_beginning_and_stay_as_they_are_set(admin):
    project = admin.projects.create(name="secret")
    assert admin.projects.data_retention.retrieve(project.id).type == "organization_default"
    admin.projects.model_permissions.update(project.id, mode="allow_list", model_ids=["gpt-4o"])
    assert admin.projects.model_permissions.retrieve(project.id).model_ids == ["gpt-4o"]
    admin.projects.model_permissions.delete(project.id)
    assert admin.projects.model_permissions.retrieve(project.id).model_ids == []


def test_usage_and_costs_come_in_buckets_and_pages(admin):
    day, start = 86_400, 1_699_920_000
    first = admin.usage.completions(start_time=start, end_time=start + 3 * day, limit=2)
    assert ([one.start_time for one in first.data], first.has_more) == ([start, start + day], True)
    last = admin.usage.completions(start_time=start, end_time=start + 3 * day, limit=2, page=first.next_page)
    assert ([one.start_time for one in last.data], last.has_more) == ([start + 2 * day], False)
    assert admin.usage.costs(start_time=start).data[0].results[0].amount.currency == "usd"


def test_webhooks_get_a_secret_that_can_be_changed(client):
    made = client.webhooks.create(name="mine", url="https://example.com/hook", event_types=["batch.completed"])
    assert made.signing_secret.startswith("whsec_")
    assert client.webhooks.rotate_secret(made.id).signing_secret != made.signing_secret
    assert "batch.completed" in client.webhooks.event_types.list().data
    assert client.webhooks.test(made.id, event_type="batch.completed").success


# how it is made


def test_a_name_in_a_path_comes_before_a_parameter():
    def answer(call):
        raise NotImplementedError

    routes = EndpointRoutes(
        {"/a/{b}": {"GET": answer, "POST": answer}, "/a/c": {"POST": answer}, "/a/{d}/e": {"GET": answer}}
    )
    assert routes.find("POST", "/a/c")[1:] == ("/a/c", {})
    assert routes.find("GET", "/a/c")[1:] == ("/a/{b}", {"b": "c"})
    assert routes.find("GET", "/a/x%2Fy/e")[1:] == ("/a/{d}/e", {"d": "x/y"})


@pytest.mark.parametrize(
    ("schema", "given", "made"),
    [
        pytest.param({"type": "string"}, 1, "word", id="a value of another kind is replaced"),
        pytest.param({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"b": 1}, {"a": 0}, id="what is missing is added, and what is unknown left out"),
        pytest.param({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]}, ["x"], ["x"], id="the option that the value is of"),
        pytest.param({"type": "object", "properties": {"created_at": {"type": "integer"}}, "required": ["created_at"]}, {}, {"created_at": 7}, id="a time is that of the clock"),
        pytest.param({"enum": ["pending", "completed"]}, "other", "completed", id="the usual one of several values"),
    ],
)  # fmt: skip
def test_an_answer_is_completed_to_what_its_model_says(schema, given, made):
    assert completed(schema, given, word="word", now=7) == made
