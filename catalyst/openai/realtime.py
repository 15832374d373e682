"""The API's WebSockets: operations that open a connection, whose messages the host relays unread."""

from typing import Any

from servers import Server

from catalyst.sdk import Call, UpstreamError, websocket
from catalyst.sdk.manifest import declared_operations
from catalyst.sdk.operation import Prepared, Table

SOCKETS = Table(declared=declared_operations(__file__, of="websockets"))


def prepared(call: Call, server: Server) -> Prepared:
    """The request that opens the connection of `call`. At Azure `deployment` is beside the model. Raises Invalid for
    the first parameter that is missing or wrong."""
    params, model = dict(call.params), call.params.get("model")
    if server.deployments is not None and isinstance(model, str):
        params["deployment"] = server.deployments.get(model, model)
    return server.placed(SOCKETS.find(call.operation).prepare(params, query=call.query), call)


def converse(request: Prepared, server: Server, headers: dict[str, str]) -> dict[str, Any]:
    """Opens the connection and waits for its end. The result's data are the code and reason of that, and the numbers of
    messages sent and received. Raises HostRefused, and UpstreamError where the API opens no connection, or ends it in
    an error."""
    url = "ws" + (server.base_url + request.target).removeprefix("http")
    given = {name.lower() for name in headers}
    fixed = {name: value for name, value in request.headers.items() if name.lower() not in given}
    with websocket.connect(url, headers={**fixed, **headers}, relay=True) as connection:
        end = connection.wait()
    if not end.ok:
        message = end.reason or f"the connection ended with the code {end.code}"
        raise UpstreamError(502, {"type": "connection_closed", "message": message, "close_code": end.code})
    return {"status": 200, "data": end._asdict()}
