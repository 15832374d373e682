import json
import sys

import pytest


def outcome(guest, function, text='{"a": 1}', interfaces=("log",)):
    return json.loads(guest("catalyst.sdk", interfaces).run(function)().run(text))


def spoken(world):
    [(level, message)] = world.logged
    assert level == "fatal"
    return json.loads(message)


def test_any_function_of_a_json_object_can_be_a_catalyst(guest):
    assert outcome(guest, lambda document: {"got": document}) == {"got": {"a": 1}}


def test_a_catalyst_needs_no_interface_at_all(guest):
    assert outcome(guest, lambda document: document, interfaces=()) == {"a": 1}


def test_half_a_surrogate_pair_leaves_the_sandbox_escaped(guest):
    out = guest("catalyst.sdk").run(lambda document: "\ud800")().run("{}")
    assert out == '"\\ud800"'


@pytest.mark.parametrize(
    ("text", "field"),
    [
        pytest.param("", "input", id="nothing"),
        pytest.param("{", "input", id="no JSON"),
        pytest.param("9" * 5000, "input", id="a number beyond Python's limit"),
        pytest.param("[]", "input", id="no object"),
        pytest.param("null", "input", id="null"),
        pytest.param("{}", "operation", id="no operation"),
        pytest.param('{"operation": null}', "operation", id="an operation that is null"),
        pytest.param('{"operation": 5}', "operation", id="an operation that is a number"),
        pytest.param('{"operation": "a", "params": []}', "params", id="params that are a list"),
        pytest.param('{"operation": "a", "params": null}', "params", id="params that are null"),
        pytest.param('{"operation": "a", "stream": "yes"}', "stream", id="a stream that is a word"),
        pytest.param('{"operation": "a", "stream": 1}', "stream", id="a stream that is a number"),
    ],
)
def test_an_input_that_is_no_operation_is_a_400_that_names_the_field(guest, text, field):
    sdk = guest("catalyst.sdk")
    result = json.loads(sdk.run_operations(lambda call: pytest.fail("was called"))().run(text))
    assert result["status"] == 400
    assert result["error"]["type"] == "invalid_request_error"
    assert result["error"]["param"] == field
    assert result["error"]["message"]


def test_params_and_stream_may_be_left_out(guest):
    sdk = guest("catalyst.sdk")
    run = sdk.run_operations(lambda call: [call.operation, call.params, call.stream])
    assert json.loads(run().run('{"operation": "a"}')) == ["a", {}, False]


def test_names_of_headers_are_in_lower_case_however_they_are_given(guest):
    sdk = guest("catalyst.sdk")
    run = sdk.run_operations(lambda call: call.headers)
    text = '{"operation": "a", "headers": {"OpenAI-Project": "theirs"}}'
    assert json.loads(run().run(text)) == {"openai-project": "theirs"}


def test_an_import_while_it_runs_says_where_it_belongs(guest, world):
    finders = sys.meta_path[:]

    def imports(document):
        import nowhere_to_be_found

        return nowhere_to_be_found

    with pytest.raises(ImportError, match=r"^nowhere_to_be_found is not there: import it at the top of a module"):
        guest("catalyst.sdk").run(imports)().run("{}")
    assert spoken(world)["exception"] == "ImportError"
    assert sys.meta_path == finders


def test_an_error_of_the_catalyst_is_its_result_and_no_trap(guest, world):
    sdk = guest("catalyst.sdk")

    def refuses(document):
        raise sdk.CatalystError(418, {"type": "teapot", "message": "short and stout"})

    result = json.loads(sdk.run(refuses)().run("{}"))
    assert result == {"status": 418, "error": {"type": "teapot", "message": "short and stout"}}
    assert world.logged == []


def test_an_exception_nobody_expected_is_told_and_then_traps(guest, world):
    def breaks(document):
        raise KeyError("nö")

    with pytest.raises(KeyError):
        outcome(guest, breaks)
    words = spoken(world)
    assert words["exception"] == "KeyError"
    assert words["message"] == "'nö'"
    assert words["traceback"].endswith("KeyError: 'nö'")
    assert "in breaks" in words["traceback"]
    assert "test_entry.py" in words["traceback"]


def test_the_cause_of_an_exception_is_told_too(guest, world):
    def breaks(document):
        try:
            {}["first"]
        except KeyError as error:
            raise TypeError("second") from error

    with pytest.raises(TypeError):
        outcome(guest, breaks)
    told = spoken(world)["traceback"]
    assert told.index("KeyError: 'first'") < told.index("which led to") < told.index("TypeError: second")


def test_an_exception_whose_causes_go_in_a_circle_is_told_all_the_same(guest, world):
    def breaks(document):
        error = TypeError("round")
        error.__cause__ = error
        raise error

    with pytest.raises(TypeError):
        outcome(guest, breaks)
    assert spoken(world)["message"] == "round"


def test_endless_recursion_is_told_in_a_short_traceback(guest, world):
    def falls(document):
        return falls(document)

    with pytest.raises(RecursionError):
        outcome(guest, falls)
    words = spoken(world)
    assert words["exception"] == "RecursionError"
    assert len(words["traceback"].splitlines()) < 50


def test_a_message_without_end_is_cut(guest, world):
    def shouts(document):
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError):
        outcome(guest, shouts)
    assert len(world.logged[0][1]) < 16_384


def test_when_memory_runs_out_it_is_said_from_a_reserve(guest, world):
    def swells(document):
        raise MemoryError

    with pytest.raises(MemoryError):
        outcome(guest, swells)
    assert spoken(world)["exception"] == "MemoryError"


def test_an_exit_is_told_like_an_exception(guest, world):
    def leaves(document):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        outcome(guest, leaves)
    assert spoken(world)["exception"] == "SystemExit"


def test_an_output_that_is_no_json_traps(guest, world):
    with pytest.raises(TypeError):
        outcome(guest, lambda document: {1, 2})
    assert spoken(world)["exception"] == "TypeError"


def test_without_the_log_an_exception_traps_silently(guest, world):
    with pytest.raises(ZeroDivisionError):
        outcome(guest, lambda document: 1 / 0, interfaces=("fetch",))
    assert world.logged == []
