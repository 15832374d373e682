"""`catalyst:host/config`: the operator's configuration of this catalyst."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from host.core.strict_json import Json
from host.core.wit import CONFIG
from host.errors import InputError
from host.run import Run


class ConfigReader:
    interface = CONFIG

    def __init__(self, config: Mapping[str, Json]) -> None:
        """Raises InputError if `config` is not JSON."""
        try:
            self._text = json.dumps(dict(config), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"the config is not JSON: {error}", field="config") from None

    def functions(self) -> Mapping[str, Any]:
        return {"get": self.get}

    def get(self, run: Run) -> str:
        del run
        return self._text
