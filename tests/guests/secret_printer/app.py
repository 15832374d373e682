"""Prints what `secrets.get` returned."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import read


class Run(exports.Run):
    def run(self, input: str) -> str:  # noqa: A002 - the contract's name
        try:
            return read.get("OPENAI_API_KEY")
        except Err as error:
            return f"refused: {error.value}"
