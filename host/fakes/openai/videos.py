"""Videos (platform.openai.com/docs/api-reference/videos): made from a prompt, from another video, and downloaded when
done.

A video goes on by one step each time that somebody looks at it: queued, in_progress, completed.
"""

from __future__ import annotations

import hashlib
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, media, rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored
from host.fakes.openai.text import seed_of

_VIDEOS = "/v1/videos"
_VIDEO = f"{_VIDEOS}/{{video_id}}"
_LASTS_S = 86_400
_USUAL = {"model": "sora-2", "seconds": "4", "size": "720x1280"}
_HEAD = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"  # the first box of an MP4 file (ISO/IEC 14496-12)
_VARIANTS = ("video", "thumbnail", "spritesheet")


def create_video(call: ApiCall) -> FakeResponse:
    return rest.answer(call, _make(call, rest.body(call).all()).fields)


def _make(call: ApiCall, given: dict[str, Any], **more: Any) -> Stored:
    shown = {"object": "video", "status": "queued", "progress": 0, **more}
    video = rest.make(call, _VIDEOS, {**_USUAL, **given}, **shown)
    video.media_type = "video/mp4"
    expires = {"completed_at": call.store.now, "expires_at": call.store.now + _LASTS_S}
    video.steps = [
        lambda: video.become(status="in_progress", progress=50),
        lambda: video.become(status="completed", progress=100, **expires),
    ]
    return video


def remix_video(call: ApiCall) -> FakeResponse:
    """Another video like the one in the path."""
    source = rest.found(call, _VIDEO)
    return rest.answer(call, _like(call, source, rest.body(call).all()).fields)


def _like(call: ApiCall, source: Stored, given: dict[str, Any]) -> Stored:
    same = {name: source.fields[name] for name in _USUAL}
    return _make(call, {**same, **given}, remixed_from_video_id=source.id)


def change_video(call: ApiCall) -> FakeResponse:
    """Edits or extends a video: a stored one by its identifier, or an upload."""
    given = rest.body(call).all()
    match given.pop("video", None):
        case {"id": str() as name}:
            return rest.answer(call, _like(call, rest.find(call, _VIDEOS, name), given).fields)
        case _:
            return rest.answer(call, _make(call, given).fields)


def download(call: ApiCall) -> FakeResponse:
    """The picture of a variant, or the first bytes of an MP4 file and noise, both functions of the identifier."""
    video = rest.found(call, _VIDEO)
    variant = call.query.choice("variant", _VARIANTS, "video")
    if not video.has_ended:
        raise errors.ApiError(400, "Video is not ready yet, use GET /v1/videos/{video_id} to check its status.")
    if variant != "video":
        return FakeResponse(200, {"content-type": "image/png"}, media.png(f"{video.id}-{variant}"))
    noise = hashlib.shake_256(seed_of(video.id)).digest(1_024)
    return FakeResponse(200, {"content-type": video.media_type}, _HEAD + noise)


ENDPOINTS: EndpointTable = {
    _VIDEOS: {"POST": create_video},
    f"{_VIDEOS}/edits": {"POST": change_video},
    f"{_VIDEOS}/extensions": {"POST": change_video},
    f"{_VIDEO}/remix": {"POST": remix_video},
    f"{_VIDEO}/content": {"GET": download},
}
