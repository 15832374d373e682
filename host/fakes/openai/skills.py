"""Skills and their versions (platform.openai.com/docs/api-reference/skills): bundles of files, numbered from 1."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from typing import Any

from host.fakes.messages import FakeResponse, Part
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored

_SKILLS = "/v1/skills"
_SKILL = "/v1/skills/{skill_id}"
_VERSIONS = f"{_SKILL}/versions"
_VERSION = f"{_VERSIONS}/{{version}}"
_ENTRY = re.compile(r"^(name|description):[ \t]*(.+?)[ \t]*$", re.MULTILINE)  # of a head
_MOMENT = (2023, 11, 14, 22, 13, 20)  # of every file in an archive, so that equal skills are equal bytes


def create_skill(call: ApiCall) -> FakeResponse:
    parts = _parts(call)
    skill = rest.make(call, _SKILLS, _said(parts), default_version="1", latest_version="1")
    call.path["skill_id"] = skill.id
    _add_version(call, "1", parts)
    return rest.answer(call, skill.fields)


def create_version(call: ApiCall) -> FakeResponse:
    skill = rest.found(call, _SKILL)
    parts = _parts(call)
    number = str(int(skill.fields["latest_version"]) + 1)
    version = _add_version(call, number, parts)
    skill.become(latest_version=number, **_said(parts))
    if rest.body(call).flag("default"):
        skill.become(default_version=number)
    return rest.answer(call, version.fields)


def _parts(call: ApiCall) -> list[Part]:
    """The files of the form, if it is one: the SDK leaves it out where there are none."""
    return call.form.parts if call.is_form else []


def _said(parts: Iterable[Part]) -> dict[str, Any]:
    """The name and description in the head of the file `skill.md`, in capitals or not."""
    texts = [part.content.decode("utf-8", "replace") for part in parts if _is_head(part)]
    return {"name": "skill", "description": "", **dict(_ENTRY.findall(texts[0] if texts else ""))}


def _is_head(part: Part) -> bool:
    return (part.filename or "").lower().endswith("skill.md")


def _add_version(call: ApiCall, number: str, parts: Iterable[Part]) -> Stored:
    """Keeps the files, as an archive."""
    skill_id = call.path["skill_id"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for part in parts:
            archive.writestr(zipfile.ZipInfo(part.filename or part.name, _MOMENT), part.content)
    fields = {**_said(parts), "object": "skill.version", "skill_id": skill_id, "version": number}
    shown = {"id": f"{skill_id}_v{number}", "created_at": call.store.now, **fields}
    stored = Stored(shown, content=packed.getvalue(), media_type="application/zip")
    return call.store.put(f"{_SKILLS}/{skill_id}/versions", stored, number)


def update_skill(call: ApiCall) -> FakeResponse:
    skill = rest.found(call, _SKILL)
    number = rest.body(call).required_text("default_version")
    rest.find(call, _VERSIONS, number)
    skill.become(default_version=number)
    return rest.answer(call, skill.fields)


def delete_version(call: ApiCall) -> FakeResponse:
    """The default version stays as long as the skill does."""
    skill, version = rest.found(call, _SKILL), rest.found(call, _VERSION)
    if skill.fields["default_version"] == version.fields["version"]:
        raise errors.wrong_value("version", "it is the default version of the skill.")
    return rest.delete(call)


def skill_content(call: ApiCall) -> FakeResponse:
    """That of the default version."""
    skill = rest.found(call, _SKILL)
    version = rest.find(call, _VERSIONS, skill.fields["default_version"])
    return FakeResponse(200, {"content-type": version.media_type}, version.content)


ENDPOINTS: EndpointTable = {
    _SKILLS: {"POST": create_skill},
    _SKILL: {"POST": update_skill},
    f"{_SKILL}/content": {"GET": skill_content},
    _VERSIONS: {"POST": create_version},
    _VERSION: {"DELETE": delete_version},
}
