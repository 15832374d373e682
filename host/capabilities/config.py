"""`catalyst:host/config`: what the operator set for this catalyst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.call import Call
from host.contract import CONFIG
from host.jsontext import Json, write_json


class Config:
    interface = CONFIG

    def __init__(self, config: Mapping[str, Json]) -> None:
        self._text = write_json(dict(config))

    def functions(self) -> Mapping[str, Any]:
        return {"get": self.get}

    def get(self, call: Call) -> str:
        del call
        return self._text
