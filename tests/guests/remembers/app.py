"""Keeps its inputs in a module global: the sin is to rely on it."""

from json import dumps, loads

from wit_world import exports

SEEN = []


class Run(exports.Run):
    def run(self, input: str) -> str:  # noqa: A002 - the contract's name
        SEEN.append(loads(input))
        return dumps({"status": 200, "data": SEEN})
