"""Ends badly, in the way that `how` says."""

from catalyst import sdk


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1


def _answer(document):
    how = document["how"]
    if how == "exception":
        raise ValueError("a value that will not do")
    if how == "memory":
        return len(b"x" * (1 << 30))
    if how == "import":
        import decimal  # noqa: F401 - too late
    if how == "recursion":
        return _recurse(0)
    if how == "exit":
        raise SystemExit(3)
    if how == "loop":
        while True:
            pass
    return {"status": 200, "data": "well"}


Run = sdk.run(_answer)
