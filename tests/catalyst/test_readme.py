import json
import re
from pathlib import Path

import pytest

from host.component.manifest import Manifest
from host.component.schema import InputSchema
from host.errors import InputError

README = (Path(__file__).parents[2] / "catalyst" / "README.md").read_text()


def test_the_smallest_catalyst_of_the_readme_runs(guest, world):
    guest("catalyst.sdk")
    [source] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    module = {}
    exec(source, module)
    world.answer('{"degrees": 21}')
    assert json.loads(module["Run"]().run('{"city": "Köln/Nord"}')) == {"status": 200, "data": {"degrees": 21}}
    assert world.requests[0]["url"] == "https://api.weather.example/now/K%C3%B6ln%2FNord"
    assert json.loads(module["Run"]().run("{}"))["error"]["param"] == "city"


def test_the_readme_names_every_module_of_the_sdk(guest):
    folder = Path(guest("catalyst.sdk").__file__).parent
    plumbing = {"__init__", "entry", "errors", "interfaces"}
    for module in {path.stem for path in folder.glob("*.py")} - plumbing:
        assert f"`{module}`" in README


def test_the_operations_of_the_readme_are_some():
    [text] = re.findall(r'```jsonc\n("operations": .*?)```', README, re.DOTALL)
    operations = Manifest.parse(f"{{{text}}}").operations
    assert operations["cities.retrieve"].in_path == ("city",)
    params = InputSchema.compile(operations["cities.retrieve"].params)
    params.check({"city": "Köln"})
    with pytest.raises(InputError, match="city is required"):
        params.check({})
