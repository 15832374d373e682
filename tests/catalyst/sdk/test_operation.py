import timeit

import pytest


@pytest.fixture
def operation(guest):
    return guest("catalyst.sdk.operation")


@pytest.fixture
def refusal(guest):
    """`refusal(function)` is the error that the function raises, which has to be a 400."""

    def of(function):
        with pytest.raises(Exception) as caught:
            function()
        assert caught.value.status == 400
        return caught.value.error

    return of


def row(operation, **columns):
    return operation.Operation(**{"name": "a.b", "method": "POST", "path": "/a", **columns})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("p:str", ""),
        ("p:str", "x"),
        ("p:int", 3),
        ("p:number", 3),
        ("p:number", 0.5),
        ("p:bool", False),
        ("p:list", []),
        ("p:object", {}),
        ("p:str|list", "x"),
        ("p:str|list", ["x"]),
        ("p:file", {"$attachment": "a1"}),
        ("p:file", {"$attachment": "a1", "filename": "a.mp3", "content_type": "audio/mpeg"}),
        ("p:file", {"data": "AAAA", "filename": "a.mp3"}),
        ("p?:str", None),
        ("p?:str", "x"),
    ],
)
def test_a_parameter_of_its_type_is_accepted(operation, column, value):
    row(operation, request="json", params=column).prepare({"p": value})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("p:str", None),
        ("p:str", 3),
        ("p:int", "3"),
        pytest.param("p:int", True, id="true is no integer"),
        pytest.param("p:number", False, id="false is no number"),
        pytest.param("p:bool", 1, id="one is no boolean"),
        ("p:list", {}),
        ("p:object", []),
        ("p:str|list", {}),
        ("p:file", "AAAA"),
        ("p:file", {}),
        pytest.param("p:file", {"$attachment": 5}, id="an attachment is named by text"),
        pytest.param("p:file", {"$attachment": "a1", "data": "AAAA"}, id="a file has one content"),
        pytest.param("p:file", {"data": "AAAA", "path": "/etc/passwd"}, id="a file has no other keys"),
        pytest.param("p:file", {"data": "AAAA", "filename": None}, id="a file's name is text"),
        pytest.param("p?:str", 3, id="what may be missing may still not be wrong"),
    ],
)
def test_a_parameter_of_another_type_is_refused_by_name(operation, refusal, column, value):
    error = refusal(lambda: row(operation, request="json", params=column).prepare({"p": value}))
    assert error["param"] == "p"
    assert error["message"].startswith("p ")


def test_a_type_that_does_not_exist_is_a_mistake_of_the_table(operation):
    with pytest.raises(ValueError):
        row(operation, params="p:string")


def test_parameters_go_where_their_column_says_and_the_others_into_the_body(operation):
    prepared = row(operation, path="/a/{id}", request="json", query="q").prepare({"id": "1", "q": 2, "x": 3})
    assert (prepared.target, prepared.content) == ("/a/1?q=2", {"json": {"x": 3}})


def test_without_a_body_every_parameter_goes_into_the_url(operation):
    prepared = row(operation, method="GET", path="/a/{id}").prepare({"id": "1", "x": 3})
    assert (prepared.target, prepared.content) == ("/a/1?x=3", {})


def test_another_spelling_of_a_parameter_is_that_parameter(operation):
    prepared = row(operation, path="/a/{id}", renamed={"the_id": "id"}).prepare({"the_id": "1"})
    assert prepared.target == "/a/1"


def test_the_parameters_of_the_caller_stay_as_they_were(operation):
    params = {"id": "1", "stream": False, "x": [1]}
    row(operation, path="/a/{id}", request="json").prepare(params)
    assert params == {"id": "1", "stream": False, "x": [1]}


@pytest.mark.parametrize("way", ["by the envelope", "by a parameter"])
def test_what_cannot_stream_refuses_to(operation, refusal, way):
    params, stream = ({}, True) if way == "by the envelope" else ({"stream": True}, False)
    assert refusal(lambda: row(operation, request="json").prepare(params, stream=stream))["param"] == "stream"


def test_a_stream_that_is_no_boolean_is_refused(operation, refusal):
    error = refusal(lambda: row(operation, request="json", stream=True).prepare({"stream": "true"}))
    assert error["param"] == "stream"


@pytest.mark.parametrize(("params", "body"), [({"stream": False}, {"stream": False}), ({}, {})])
def test_no_stream_is_sent_as_it_was_given(operation, params, body):
    prepared = row(operation, request="json", stream=True).prepare(params)
    assert (prepared.stream, prepared.content) == (False, {"json": body})


def test_what_answers_with_events_alone_streams_unasked_and_sends_no_word_of_it(operation):
    prepared = row(operation, method="GET", stream="always").prepare({"after": "e1"})
    assert (prepared.stream, prepared.target) == (True, "/a?after=e1")


def test_headers_are_fixed_or_the_value_of_a_parameter(operation):
    headers = {"OpenAI-Beta": "assistants=v2", "Idempotency-Key": {"param": "key"}, "Betas": {"param": "betas"}}
    beta = row(operation, request="json", headers=headers)
    prepared = beta.prepare({"key": "k", "betas": ["a", "b"], "x": 1})
    assert prepared.headers == {"OpenAI-Beta": "assistants=v2", "Idempotency-Key": "k", "Betas": "a,b"}
    assert prepared.content == {"json": {"x": 1}}
    assert beta.prepare({"key": None}).headers == {"OpenAI-Beta": "assistants=v2"}


def test_a_header_that_is_no_text_is_refused_by_the_name_of_its_parameter(operation, refusal):
    beta = row(operation, request="json", headers={"Idempotency-Key": {"param": "key"}})
    assert refusal(lambda: beta.prepare({"key": 5}))["param"] == "key"


CALL = {"request": "raw", "parts": {"sdp": "application/sdp", "session": "application/json"}, "params": "sdp:str"}


def test_a_raw_body_is_the_first_parameter_alone(operation):
    prepared = row(operation, **CALL).prepare({"sdp": "v=0"})
    assert (prepared.content, prepared.headers) == ({"body": "v=0"}, {"Content-Type": "application/sdp"})


def test_beside_others_it_is_a_part_of_a_form_with_its_media_type(operation):
    prepared = row(operation, **CALL).prepare({"sdp": "v=0", "session": {"a": [1, "é"]}})
    assert prepared.content["multipart"] == [
        {"name": "sdp", "value": "v=0", "content_type": "application/sdp"},
        {"name": "session", "value": '{"a":[1,"é"]}', "content_type": "application/json"},
    ]


def test_fields_of_one_name_are_together_and_files_come_last(operation):
    file = {"$attachment": "a1"}
    params = {"image": [file, file], "a": [{"x": 1, "y": 2}, {"x": 3}], "mask": file, "b": "z"}
    parts = row(operation, request="multipart").prepare(params).content["multipart"]
    assert [part["name"] for part in parts] == ["a[][x]", "a[][x]", "a[][y]", "b", "image[]", "image[]", "mask"]


def test_a_form_without_files_is_json_where_the_row_says_so(operation):
    upload = row(operation, request="multipart", without_files="json")
    assert upload.prepare({"file_id": "f"}).content == {"json": {"file_id": "f"}}
    assert "multipart" in upload.prepare({"file": {"data": "AAAA"}}).content


def test_a_query_that_is_always_sent_comes_first(operation):
    beta = row(operation, method="GET", path="/a/{id}?beta=true")
    assert beta.prepare({"id": "1", "x": "y"}, query="z=1").target == "/a/1?beta=true&x=y&z=1"


@pytest.mark.parametrize(
    ("path", "value", "target"),
    [
        ("/a/{id}", "b/c", "/a/b%2Fc"),
        ("/a/{+id}", "b/c d", "/a/b/c%20d"),
        ("/a/{id}/{id2}", "{id2}", "/a/%7Bid2%7D/x"),
    ],
)
def test_slashes_stay_where_the_path_says_so(operation, path, value, target):
    assert (
        row(operation, path=path).prepare({"id": value, "id2": "x"} if "id2" in path else {"id": value}).target
        == target
    )


@pytest.mark.parametrize("value", ["a//b", "a/../b", "..", "/a", ""])
def test_nobody_gets_out_of_a_path_that_keeps_slashes(operation, refusal, value):
    assert refusal(lambda: row(operation, path="/a/{+id}").prepare({"id": value}))["param"] == "id"


def test_a_number_in_a_path_is_taken_where_the_row_says_so(operation, refusal):
    assert row(operation, path="/a/{id}", params="id:int").prepare({"id": 5}).target == "/a/5"
    assert refusal(lambda: row(operation, path="/a/{id}").prepare({"id": 5}))["param"] == "id"


DECLARED = {
    "a.b": '{"name":"a.b","method":"GET","path":"/a"}',
    "a.c": "a.b",
    "a.bc": '{"name":"a.bc","method":"POST","path":"/b","params":"x:str"}',
}


def test_a_declared_row_is_found_by_its_name_and_its_aliases(operation):
    table = operation.Table(declared=DECLARED)
    assert table.names == ["a.b", "a.bc", "a.c"]
    assert table.find("a.b") == table.find("a.c") == operation.Operation("GET", "a.b", "/a")
    assert table.find("a.bc").path == "/b"


def test_a_declared_name_is_not_taken_again(operation):
    with pytest.raises(ValueError, match=r"called a\.c"):
        operation.Table([row(operation, name="a.c")], DECLARED)


def test_a_row_costs_about_the_same_among_hundreds_as_among_a_few(guest, operation):
    rows = guest("operations").OPERATIONS
    assert len(rows) > 390

    def seconds(declared):
        table = operation.Table(declared=declared)
        return min(timeit.repeat(lambda: table.find("webhooks.update"), number=100, repeat=7))

    few = dict(list(rows.items())[-18:])
    assert seconds(rows) < 3 * seconds(few)
