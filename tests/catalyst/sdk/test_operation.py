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


DECLARED = """
a.b\t{"name":"a.b","method":"GET","path":"/a"}
a.c\ta.b
a.bc\t{"name":"a.bc","method":"POST","path":"/b","params":"x:str"}
"""


def test_a_declared_row_is_found_by_its_name_and_its_aliases(operation):
    table = operation.Table(declared=DECLARED)
    assert table.names == ["a.b", "a.bc", "a.c"]
    assert table.find("a.b") == table.find("a.c") == operation.Operation("GET", "a.b", "/a")
    assert table.find("a.bc").path == "/b"


@pytest.mark.parametrize("name", ["", "a", "a.", "a.b\t{", 'a.b\t{"name"', "\n", "a.b\n", "method"])
def test_no_part_of_the_table_is_a_name(operation, refusal, name):
    assert refusal(lambda: operation.Table(declared=DECLARED).find(name))["param"] == "operation"


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        pytest.param({"a": "x", "b": True}, [("a", "x"), ("b", "true")], id="words and booleans"),
        pytest.param({"a": ["x", "y"], "b": []}, [("a[]", "x"), ("a[]", "y")], id="lists repeat with brackets"),
        pytest.param({"a": {"k": 1.5}}, [("a[k]", "1.5")], id="objects nest"),
        pytest.param({"a": None}, [], id="null is left out"),
    ],
)
def test_forms_are_written_as_the_official_sdk_does(operation, params, parts):
    prepared = row(operation, request="multipart").prepare(params)
    assert prepared.content == {"multipart": [{"name": name, "value": value} for name, value in parts]}


def test_files_become_parts_with_a_name(operation):
    files = {"a": {"$attachment": "a1"}, "b": {"data": "AAAA", "filename": "b.png", "content_type": "image/png"}}
    assert row(operation, request="multipart").prepare(files).content["multipart"] == [
        {"name": "a", "attachment": "a1", "filename": "upload"},
        {"name": "b", "data": "AAAA", "filename": "b.png", "content_type": "image/png"},
    ]


def test_a_list_of_files_becomes_as_many_parts(operation):
    files = {"image": [{"$attachment": "a1"}, {"$attachment": "a2"}]}
    assert [part["name"] for part in row(operation, request="multipart").prepare(files).content["multipart"]] == [
        "image[]",
        "image[]",
    ]


def test_ready_made_parts_are_sent_as_they_are_before_the_other_parameters(operation):
    parts = [{"name": "file", "data": "AAAA", "filename": "a.mp3"}, {"name": "model", "value": "whisper-1"}]
    params = {"multipart": parts, "language": "de"}
    prepared = row(operation, request="multipart", params="file:file model:str").prepare(params)
    assert prepared.content == {"multipart": [*parts, {"name": "language", "value": "de"}]}


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        pytest.param({}, "file", id="a field that is called so"),
        pytest.param(["a"], "file", id="fields that are called so"),
        pytest.param([{"value": "x"}], "multipart", id="a part without a name"),
        pytest.param([], "file", id="no parts at all"),
        pytest.param([{"name": "model", "value": "m"}], "file", id="parts without the file"),
        pytest.param([{"name": "file", "attachment": "a1"}], "model", id="parts without the model"),
        pytest.param([{"name": "file"}, {"name": "model", "value": "m"}], "file", id="a file without content"),
        pytest.param([{"name": "file", "value": "x"}, {"name": "model", "value": "m"}], "file", id="a file as text"),
    ],
)
def test_ready_made_parts_are_checked_like_parameters(operation, refusal, parts, field):
    upload = row(operation, request="multipart", params="file:file model:str")
    assert refusal(lambda: upload.prepare({"multipart": parts}))["param"] == field


@pytest.mark.parametrize(("asked", "answer"), [(None, "json"), ("json", "json"), ("srt", "text"), (["srt"], "json")])
def test_a_response_format_in_plain_text_is_expected_as_text(operation, asked, answer):
    prepared = row(operation, request="json", plain="text srt vtt").prepare({"response_format": asked})
    assert prepared.answer == answer


def test_two_operations_of_one_name_are_a_mistake_of_the_table(operation):
    with pytest.raises(ValueError, match="called b"):
        operation.Table([row(operation, name="a", aliases="b"), row(operation, name="b")])


def test_an_unknown_operation_is_refused_with_the_nearest_names(operation, refusal):
    table = operation.Table([row(operation, name=name) for name in ("files.list", "files.get", "chat.create")])
    error = refusal(lambda: table.find("file.list"))
    assert error["param"] == "operation"
    assert "files.list" in error["message"]
    assert "chat" not in error["message"]


def test_an_operation_like_no_other_gets_no_advice(operation, refusal):
    message = refusal(lambda: operation.Table([row(operation, name="files.list")]).find("zzz" * 100))["message"]
    assert "did you mean" not in message
    assert len(message) < 200
