"""The API's WebSockets: operations that open a connection, whose messages the host relays unread."""

from typing import Any, NamedTuple

from servers import Server

from catalyst.sdk import Call, UpstreamError, http, websocket
from catalyst.sdk.errors import Invalid


class Socket(NamedTuple):
    """A row. Parameters that are not in the path go into the query; `required` ones have to be there."""

    path: str
    in_path: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


SOCKETS = {
    "realtime.connect": Socket("/realtime"),
    "beta.realtime.connect": Socket("/realtime", required=("model",), headers={"OpenAI-Beta": "realtime=v1"}),
    "realtime.translations.connect": Socket("/realtime/translations", required=("model",)),
    "responses.connect": Socket("/responses"),
    "beta.responses.connect": Socket("/responses"),
    "live.connect": Socket("/live/sessions"),
    "live.sideband.connect": Socket("/live/sessions/{session_id}/attach", ("session_id",)),
    "live.forks.connect": Socket("/live/sessions/{session_id}/fork", ("session_id",)),
}


def target_of(call: Call, server: Server) -> str:
    """Path and query. Azure's deployments are named by `deployment`, and `api-version` is beside them. Raises Invalid
    for the first parameter that is missing or wrong."""
    socket, given = SOCKETS[call.operation], dict(call.params)
    for name in (*socket.in_path, *socket.required):
        if given.get(name) is None and not (call.query and name in socket.required):
            raise Invalid(name, f"{name} is required")
    if server.deployments is not None and (model := given.pop("model", None)) is not None:
        given["deployment"] = server.deployments.get(model, model) if isinstance(model, str) else model
    if server.api_version:
        given["api-version"] = server.api_version
    in_path = {name: given.pop(name) for name in socket.in_path}
    target = http.path(socket.path, **in_path) + http.query(given)
    if call.query:
        target += ("&" if "?" in target else "?") + call.query
    return target


def converse(url: str, call: Call, headers: dict[str, str]) -> dict[str, Any]:
    """Opens the connection of `call` at `url`, an HTTP one, and waits for its end. The result's data are the code and
    reason of that, and the numbers of messages sent and received. Raises HostRefused, and UpstreamError where the API
    opens no connection, or ends it in an error."""
    url, fixed = "ws" + url.removeprefix("http"), SOCKETS[call.operation].headers
    with websocket.connect(url, headers={**fixed, **headers}, relay=True) as connection:
        end = connection.wait()
    if not end.ok:
        message = end.reason or f"the connection ended with the code {end.code}"
        raise UpstreamError(502, {"type": "connection_closed", "message": message, "close_code": end.code})
    return {"status": 200, "data": end._asdict()}
