"""Operations on stored objects, all alike: made, listed, read, changed and deleted by the method and the shape of the
path.

`/v1/things` is a collection, `/v1/things/{thing_id}` one of its objects, `/v1/things/{thing_id}/verb` something done
to it; what is neither is a setting, or the answer is made of the question alone. The particulars of each kind of
object are in resources.py. What is more than that is a handler of its own, made of the functions here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, Handler, Params
from host.fakes.openai.parameters import check_types
from host.fakes.openai.resources import NOW, resource
from host.fakes.openai.specification import ApiOperation, completed, operations
from host.fakes.openai.store import Store, Stored
from host.fakes.openai.text import identifier, page, seed_of, sentence

_PAGING = {"after", "before", "limit", "order", "page", "include"}
_POLL = {"openai-poll-after-ms": "5"}  # the pause of a client that waits for work to be done


def handler(operation: ApiOperation) -> Handler:
    """Returns the handler of an operation that has none of its own."""
    path, method = operation.path, operation.method
    if path.endswith("}"):
        return {"GET": retrieve, "POST": update, "DELETE": delete}[method]
    if operation.page and method == "GET":
        return list_objects
    if operation.answer == "binary" and method == "GET":
        return content
    if method != "POST":
        return read_settings if method == "GET" else clear_settings
    if _is_collection(path):
        return create
    if ("GET", path) in operations():
        return write_settings
    return act if path.rpartition("/")[0].endswith("}") else compute


@cache
def _is_collection(path: str) -> bool:
    """Whether objects are kept there: they can be listed, or asked for one by one, or made and then acted on."""
    known = operations()
    below = [at[len(path) + 1 :] for _, at in known if at.startswith(path + "/{")]
    listed = known.get(("GET", path))
    return any("/" not in at for at in below) or bool(listed and listed.page) or bool(below and ("POST", path) in known)


# parameters and answers, for every handler


def body(call: ApiCall) -> Params:
    """The parameters of the body, as the specification wants them. Raises ApiError (400)."""
    operation, files = call.operation, call.files
    params = call.form.params if call.is_form else call.params if call.request.body else Params({})
    if operation is not None:
        params = params.typed(operation.types) if call.is_form else params
        for name in operation.required:
            if name not in params and name not in files:
                raise errors.missing(name)
        check_types(params, operation.types)
        for name, names in operation.choices.items():
            if (value := params.text(name, None)) is not None and value not in names:
                raise errors.unsupported(name, value, tuple(names))
    return params


def shown(call: ApiCall, fields: Mapping[str, Any], schema: Any = None) -> Any:
    """`fields` as the operation's answer has them: all that its model requires, and nothing that it does not know."""
    wanted = schema if schema is not None else call.operation.answer if call.operation else {}
    word = sentence(seed_of("word", call.request.path), 1)[:-1].lower()
    return completed(wanted, {**call.path, **fields}, word=word, now=call.store.now)


def answer(call: ApiCall, fields: Mapping[str, Any]) -> FakeResponse:
    if call.operation is None or not isinstance(call.operation.answer, dict):
        return FakeResponse(200)
    return FakeResponse.json(shown(call, fields), headers=_POLL)


def listing(call: ApiCall, items: Iterable[Mapping[str, Any]], *, oldest_first: bool = False) -> FakeResponse:
    """A page of `items` (oldest first), by the query."""
    every = [dict(item) for item in items if _is_wanted(item, call.query)]
    found = page(every, call.query, default=20, most=1000, oldest_first=oldest_first)
    found["data"] = [shown(call, item) for item in found["data"]]
    if call.operation and call.operation.page in {"next", "token"}:
        found["next"] = found["last_id"] if found["has_more"] else None
    return FakeResponse.json(found)


def _is_wanted(item: Mapping[str, Any], query: Params) -> bool:
    """Whether `item` is what the query asks for, as far as it has what the query names."""
    for name, wanted in query.all().items():
        key, bracket, inner = name.partition("[")
        if key == "metadata" and bracket and (item.get("metadata") or {}).get(inner[:-1]) != wanted:
            return False
        has = item.get("status" if key == "filter" else key)
        if bracket or key in _PAGING or not isinstance(has, str):
            continue
        if has not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def compute(call: ApiCall) -> FakeResponse:
    """An answer made of the question alone."""
    given = body(call).all()
    return answer(call, {"id": identifier("", seed_of(call.request.path, given)), **given})


# objects


def collection(call: ApiCall, template: str) -> str:
    """The concrete path of a collection, such as `/v1/threads/{thread_id}/messages`.

    Raises ApiError (404) if an object above it is not there.
    """
    template = _of_projects(template)
    steps = template.split("/")
    for at, step in enumerate(steps):
        above = "/".join(steps[:at])
        if step.startswith("{") and _is_collection(above):
            find(call, above, call.path[step[1:-1]])
    return template.format_map(call.path)


def _of_projects(template: str) -> str:
    """The roles of a project have a path of their own."""
    return template.replace("/v1/projects/", "/v1/organization/projects/")


def make(call: ApiCall, template: str, given: Mapping[str, Any], **more: Any) -> Stored:
    """Stores a new object: `given` (its maker's words) over the usual fields, and `more` over both."""
    store, kind, place = call.store, resource(_of_projects(template)), collection(call, template)
    _seed(call, template, place)
    own = given.get(kind.key) if kind.key else None
    name = str(own) if own is not None else identifier(kind.prefix, seed_of(place, store.next_number()))
    fields: dict[str, Any] = {"created_at": store.now, "created": store.now, "updated_at": store.now}
    lasts_s = _lifetime(given) or kind.lasts_s
    fields |= {"expires_at": store.now + lasts_s} if lasts_s else {}
    fields |= {**_now(kind.fields, store), **call.path, **given, "id": name, **more}
    stored = Stored(fields, when_expired=None if kind.when_expired is None else dict(kind.when_expired))
    stored.steps = [_step(stored, one, store) for one in kind.steps]
    return store.put(place, stored)


def _lifetime(given: Mapping[str, Any]) -> int | None:
    match given.get("expires_after"):
        case {"seconds": int() as seconds}:
            return seconds
        case {"minutes": int() as minutes}:
            return minutes * 60
        case {"days": int() as days}:
            return days * 86_400
        case _:
            lasts_s = given.get("expires_in_seconds")
            return lasts_s if isinstance(lasts_s, int) else None


def _now(fields: Mapping[str, Any], store: Store) -> dict[str, Any]:
    return {name: store.now if value is NOW else value for name, value in fields.items()}


def _step(stored: Stored, fields: Mapping[str, Any], store: Store) -> Callable[[], object]:
    return lambda: stored.become(**_now(fields, store))


def every(call: ApiCall, template: str) -> list[Stored]:
    """The objects of a collection, oldest first. Raises ApiError (404) if an object above it is not there."""
    place = collection(call, template)
    _seed(call, template, place)
    return call.store.all(place)


def _seed(call: ApiCall, template: str, place: str) -> None:
    """Puts into a collection what is there from the beginning, when somebody first asks for it."""
    if place not in call.store.collections:
        call.store.collections[place] = {}
        for name, fields in resource(_of_projects(template)).seeds.items():
            make(call, template, fields, id=name)


def find(call: ApiCall, template: str, name: str) -> Stored:
    """The object of that name in a collection. Raises ApiError (404)."""
    template = _of_projects(template)
    every(call, template)
    stored = call.store.find(collection(call, template), name)
    if stored is None:
        raise errors.not_found(f"No such {resource(template).word}: '{name}'", param=None)
    return stored


def found(call: ApiCall, template: str | None = None) -> Stored:
    """The object at the path of an object, by default the operation's own. Raises ApiError (404)."""
    template = template or (call.operation.path if call.operation else "")
    place, _, last = template.rpartition("/")
    return find(call, place, call.path[last[1:-1]])


def look(stored: Stored) -> Stored:
    """Goes on with the work of an object by one step."""
    if stored.steps:
        stored.steps.pop(0)()
    return stored


def template_of(call: ApiCall) -> str:
    return call.operation.path if call.operation else call.request.path


def create(call: ApiCall) -> FakeResponse:
    stored = make(call, template_of(call), body(call).all())
    for part in call.files.values():
        stored.content, stored.media_type = part.content, part.content_type or stored.media_type
    return answer(call, stored.fields)


def list_objects(call: ApiCall) -> FakeResponse:
    kind = resource(_of_projects(template_of(call)))
    objects = every(call, template_of(call))
    return listing(call, [one.fields for one in objects], oldest_first=kind.oldest_first)


def retrieve(call: ApiCall) -> FakeResponse:
    return answer(call, look(found(call)).fields)


def update(call: ApiCall) -> FakeResponse:
    stored = found(call)
    stored.become(**{name: value for name, value in body(call).all().items() if value is not None})
    return answer(call, stored.fields)


def delete(call: ApiCall) -> FakeResponse:
    stored = found(call)
    place, _, last = template_of(call).rpartition("/")
    call.store.remove(collection(call, place), call.path[last[1:-1]])
    return answer(call, {**stored.fields, "deleted": True})


def content(call: ApiCall) -> FakeResponse:
    """The bytes of the object above."""
    stored = found(call, template_of(call).rpartition("/")[0])
    return FakeResponse(
        200, {"content-type": stored.media_type}, stored.content or sentence(seed_of("content", stored.id)).encode()
    )


def act(call: ApiCall) -> FakeResponse:
    """What a verb does to an object: it takes on the verb's fields."""
    above, _, verb = template_of(call).rpartition("/")
    stored = found(call, above)
    given = body(call).all()
    changes = resource(_of_projects(above.rpartition("/")[0])).actions.get(verb)
    if changes is not None:
        check_not_ended(stored, verb)
        stored.steps.clear()
        stored.become(**_now(changes, call.store))
    return answer(call, {**stored.fields, **given})


def check_not_ended(stored: Stored, verb: str) -> None:
    """Raises ApiError (400) if nothing can be done any more."""
    if stored.has_ended:
        message = f"Cannot {verb} {stored.id}: its status is '{stored.fields['status']}'."
        raise errors.ApiError(400, message, code="invalid_state")


# settings: one object at a path, which is there from the beginning


def _settings(call: ApiCall) -> Stored:
    template = template_of(call)
    place = collection(call, template)
    return call.store.find(place, "") or call.store.put(place, Stored({"id": "", **resource(template).fields}))


def read_settings(call: ApiCall) -> FakeResponse:
    return answer(call, {**call.query.all(), **_settings(call).fields})


def write_settings(call: ApiCall) -> FakeResponse:
    stored = _settings(call)
    stored.become(**body(call).all())
    return answer(call, stored.fields)


def clear_settings(call: ApiCall) -> FakeResponse:
    stored = _settings(call)
    call.store.remove(collection(call, template_of(call)), "")
    return answer(call, {**stored.fields, "deleted": True})
