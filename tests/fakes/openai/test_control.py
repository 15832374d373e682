import pytest

RULES = [{"status": 500, "times": 2}, {"path": "/v1/files*", "delay_s": 0.5}]


def test_health_is_ok_and_needs_no_key(http):
    response = http.get("/health", headers={"authorization": ""})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_the_metadata_says_where_the_api_is(http, fake):
    assert http.get("/").json()["base_url"] == fake.url + "/v1"


def test_requests_are_listed_and_cleared(http):
    http.get("/v1/models")
    http.post("/v1/embeddings", json={"model": "m", "input": "x"})
    listed = http.get("/__parlel/requests").json()
    assert listed["count"] == 2
    assert [(kept["method"], kept["path"]) for kept in listed["requests"]] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/embeddings"),
    ]
    assert listed["requests"][1]["body"] == {"model": "m", "input": "x"}
    assert http.delete("/__parlel/requests").json() == {"requests": [], "count": 0}
    assert http.get("/__parlel/requests").json()["count"] == 0


def test_reset_forgets_everything_and_counts_from_one_again(http):
    http.post("/__parlel/faults", json=[{"path": "/v1/nothing"}])
    http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x"})
    assert http.post("/__parlel/reset").status_code == 200
    assert http.get("/__parlel/faults").json()["count"] == 0
    assert http.get("/__parlel/requests").json()["count"] == 0
    assert http.get("/v1/files").json()["data"] == []


def test_the_clock_stands_still_until_it_is_set_forward(http):
    made = http.post(
        "/v1/files", data={"purpose": "batch", "expires_after[seconds]": "3600"}, files={"file": b"x"}
    ).json()
    assert http.get("/__parlel/clock").json() == {"now": made["created_at"]}
    assert http.post("/__parlel/clock", json={"seconds": 3600}).json() == {"now": made["expires_at"]}
    assert http.get(f"/v1/files/{made['id']}").status_code == 404
    assert http.post("/__parlel/clock", json={"seconds": -1}).json()["error"]["param"] == "seconds"
    http.post("/__parlel/reset")
    assert http.get("/__parlel/clock").json() == {"now": made["created_at"]}


def test_faults_are_added_listed_and_cleared(http):
    assert http.post("/__parlel/faults", json=RULES[:1]).json()["count"] == 1
    assert http.post("/__parlel/faults", json=RULES[1]).json() == {"faults": RULES, "count": 2}
    assert http.get("/v1/models").status_code == 500
    assert http.get("/__parlel/faults").json()["faults"] == [{"status": 500}, RULES[1]]
    assert http.delete("/__parlel/faults").json() == {"faults": [], "count": 0}
    assert http.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param(b"not json", None, id="what is not JSON"),
        pytest.param(b"[" * 100_000, None, id="what is nested too deeply"),
        pytest.param(b"[1]", "faults", id="a number"),
        pytest.param(b'[{"status": 500}, {"status": 1}]', "status", id="one bad rule among good ones"),
    ],
)
def test_bad_faults_are_refused_and_none_is_taken(http, body, param):
    response = http.post("/__parlel/faults", content=body)
    assert response.status_code == 400
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, "invalid_fault")
    assert http.get("/__parlel/faults").json()["count"] == 0


def test_a_preflight_welcomes_everybody(http):
    response = http.options("/v1/chat/completions", headers={"access-control-request-headers": "authorization,x-a"})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["access-control-allow-headers"] == "authorization,x-a"
    assert "POST" in response.headers["access-control-allow-methods"]


def test_a_preflight_can_ask_for_the_whole_server(connect):
    raw = connect()
    raw.send(b"OPTIONS * HTTP/1.1\r\nHost: f\r\n\r\n")
    assert raw.head()[0] == 204


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/nowhere"])
def test_every_answer_welcomes_every_origin(http, path):
    assert http.get(path).headers["access-control-allow-origin"] == "*"
