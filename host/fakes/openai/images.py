"""POST /v1/images/generations (platform.openai.com/docs/api-reference/images), and the pictures behind its URLs."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from typing import Any

from host.fakes.messages import Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.text import CREATED, count, identifier, seed_of

_SIDE = 8  # pixels: whatever `size` asks for, the picture is tiny
_SIZE = re.compile(r"(auto|[1-9][0-9]{1,3}x[1-9][0-9]{1,3})\Z")


def generate(call: Call) -> Response:
    params = call.params
    prompt = params.required_text("prompt")
    model = params.text("model", "dall-e-2")
    newer = model.startswith("gpt-image")  # these never give URLs, and count tokens
    form = params.choice("response_format", ("url", "b64_json"), "b64_json" if newer else "url")
    size = params.text("size", "1024x1024")
    if not _SIZE.match(size):
        raise errors.unsupported("size", size, ("256x256", "512x512", "1024x1024", "1024x1536", "1536x1024", "auto"))
    seed = seed_of("image", model, prompt, size)
    names = [identifier("img-", seed_of(seed.hex(), index)) for index in range(params.integer("n", 1, high=10))]
    revised = {"revised_prompt": prompt} if model == "dall-e-3" else {}
    data = [
        {**revised, "b64_json": base64.b64encode(png(name)).decode()}
        if form == "b64_json"
        else {**revised, "url": f"{call.request.server_url}/images/{name}.png"}
        for name in names
    ]
    usage = {"usage": _usage(count(prompt), len(data))} if newer else {}
    return Response.json({"created": CREATED, "data": data, **usage})


def picture(call: Call) -> Response:
    """GET /images/{name}.png: it follows from its name, so nothing was kept, and it needs no key."""
    name, dot, suffix = call.path["name"].rpartition(".")
    if not dot or suffix != "png":
        raise errors.not_found("There is no such image.")
    return Response(200, {"content-type": "image/png"}, png(name))


def png(name: str) -> bytes:
    """An RGB picture of 8 by 8 pixels (PNG, third edition: 8-bit truecolour, no filter, stored uncompressed so that
    every zlib makes the same bytes)."""
    pixels = hashlib.shake_256(name.encode()).digest(_SIDE * _SIDE * 3)
    rows = b"".join(b"\0" + pixels[at : at + _SIDE * 3] for at in range(0, len(pixels), _SIDE * 3))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _usage(text_tokens: int, images: int) -> dict[str, Any]:
    image_tokens = 64 * images
    return {
        "input_tokens": text_tokens,
        "input_tokens_details": {"text_tokens": text_tokens, "image_tokens": 0},
        "output_tokens": image_tokens,
        "total_tokens": text_tokens + image_tokens,
    }
