"""Images and audio (platform.openai.com/docs/api-reference/images and …/audio).

POST /v1/images/{generations,edits,variations}, GET /images/{name}.png, POST
/v1/audio/{speech,transcriptions,translations}.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable, Params
from host.fakes.openai.parameters import IMAGES, SPEECH, check_types
from host.fakes.openai.store import CREATED
from host.fakes.openai.text import count, event, event_stream, identifier, seed_of, sentence, tokens

# images

_SIDE = 8  # pixels, whatever the `size`
_SIZE = re.compile(r"(auto|[1-9][0-9]{1,3}x[1-9][0-9]{1,3})\Z")


def generate_image(call: ApiCall) -> FakeResponse:
    params = call.params
    prompt = params.required_text("prompt")
    check_types(params, IMAGES)
    return _pictures(call, params, "generation", prompt)


def edit_image(call: ApiCall) -> FakeResponse:
    """The pictures depend on the uploads too."""
    params = rest.body(call)
    return _pictures(call, params, "edit", params.required_text("prompt"), _uploads(call))


def vary_image(call: ApiCall) -> FakeResponse:
    return _pictures(call, rest.body(call), "variation", "", _uploads(call))


def _uploads(call: ApiCall) -> list[str]:
    parts = call.form.parts if call.is_form else []
    return [hashlib.sha256(part.content).hexdigest() for part in parts]


def _pictures(call: ApiCall, params: Params, kind: str, prompt: str, uploads: Sequence[str] = ()) -> FakeResponse:
    model = params.text("model", "dall-e-2")
    newer = model.startswith("gpt-image")  # these give no URLs, and count tokens
    form = params.choice("response_format", ("url", "b64_json"), "b64_json" if newer else "url")
    size = params.text("size", "1024x1024")
    if not _SIZE.match(size):
        raise errors.unsupported("size", size, ("256x256", "512x512", "1024x1024", "1024x1536", "1536x1024", "auto"))
    seed = seed_of("image", model, prompt, size, *([kind, *uploads] if uploads else []))
    names = [identifier("img-", seed_of(seed.hex(), index)) for index in range(params.integer("n", 1, high=10))]
    if params.flag("stream"):
        if not newer:
            raise errors.wrong_value("stream", "it is only allowed for GPT image models.")
        partial = params.integer("partial_images", 0, low=0, high=3)
        spent = _image_usage(count(prompt), len(names))
        return event_stream(_image_events(params, f"image_{kind}", names, partial, spent))
    revised = {"revised_prompt": prompt} if model == "dall-e-3" else {}
    data = [
        {**revised, "b64_json": base64.b64encode(png(name)).decode()}
        if form == "b64_json"
        else {**revised, "url": f"{call.request.server_url}/images/{name}.png"}
        for name in names
    ]
    usage = {"usage": _image_usage(count(prompt), len(data))} if newer else {}
    return FakeResponse.json({"created": CREATED, "data": data, **usage})


def _image_events(params: Params, kind: str, names: list[str], partial: int, usage: dict[str, Any]) -> Iterator[bytes]:
    """Pictures on their way and whole ones; on its way a picture is another one."""
    shown = {
        "created_at": CREATED,
        "size": params.text("size", "1024x1024"),
        "quality": params.choice("quality", ("low", "medium", "high", "auto"), "auto"),
        "background": params.choice("background", ("transparent", "opaque", "auto"), "auto"),
        "output_format": params.choice("output_format", ("png", "webp", "jpeg"), "png"),
    }
    part, whole = f"{kind}.partial_image", f"{kind}.completed"
    for name in names:
        for index in range(partial):
            picture = base64.b64encode(png(f"{name}-{index}")).decode()
            yield event({"type": part, "b64_json": picture, **shown, "partial_image_index": index}, part)
        picture = base64.b64encode(png(name)).decode()
        yield event({"type": whole, "b64_json": picture, **shown, "usage": usage}, whole)


def download_image(call: ApiCall) -> FakeResponse:
    """GET /images/{name}.png, without a key. The picture is a function of its name, so nothing is stored."""
    name, dot, suffix = call.path["name"].rpartition(".")
    if not dot or suffix != "png":
        raise errors.not_found("There is no such image.")
    return FakeResponse(200, {"content-type": "image/png"}, png(name))


def png(name: str) -> bytes:
    """An RGB picture of 8 by 8 pixels (PNG, third edition: 8-bit truecolour, no filter).

    It is uncompressed, so that every zlib makes the same bytes.
    """
    pixels = hashlib.shake_256(name.encode()).digest(_SIDE * _SIDE * 3)
    rows = b"".join(b"\0" + pixels[at : at + _SIDE * 3] for at in range(0, len(pixels), _SIDE * 3))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _image_usage(text_tokens: int, images: int) -> dict[str, Any]:
    image_tokens = 64 * images
    return {
        "input_tokens": text_tokens,
        "input_tokens_details": {"text_tokens": text_tokens, "image_tokens": 0},
        "output_tokens": image_tokens,
        "total_tokens": text_tokens + image_tokens,
    }


# audio

# The first bytes and the media type of each format (RFC 7845, RFC 9639, ISO 14496-3 ADTS, ID3v2.4 before MPEG).
_FORMATS = {
    "mp3": (b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\xc4", "audio/mpeg"),
    "opus": (b"OggS\0\x02", "audio/opus"),
    "aac": (b"\xff\xf1\x50\x80", "audio/aac"),
    "flac": (b"fLaC\x80\0\0\x22", "audio/flac"),
    "wav": (b"RIFF", "audio/wav"),
    "pcm": (b"", "audio/pcm"),
}
_SAMPLE_RATE = 24_000
_MAX_INPUT = 4096
_SECONDS_PER_WORD = 0.5


def speech(call: ApiCall) -> FakeResponse:
    params = call.params
    check_types(params, SPEECH)
    asked = [params.required_text(name) for name in ("model", "input")]
    voice = params.required("voice")
    if len(asked[1]) > _MAX_INPUT:
        raise errors.wrong_value("input", f"string too long. Expected at most {_MAX_INPUT} characters.")
    params.check_number("speed", 0.25, 4)
    form = params.choice("response_format", tuple(_FORMATS), "mp3")
    content = sound(seed_of("speech", *asked, voice, params.raw("speed")), form)
    if params.choice("stream_format", ("audio", "sse"), "audio") == "sse":
        return event_stream(_speech_events(content, count(asked[1])))
    return FakeResponse(200, {"content-type": _FORMATS[form][1]}, content)


def sound(seed: bytes, form: str) -> bytes:
    """The first bytes of `form`, then noise with all 256 byte values; for `wav` a playable file of 12 ms."""
    noise = bytes(value ^ seed[0] for value in range(256)) + hashlib.shake_256(seed).digest(320)
    if form != "wav":
        return _FORMATS[form][0] + noise
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _SAMPLE_RATE, 2 * _SAMPLE_RATE, 2, 16)  # 16-bit mono PCM
    chunks = b"WAVE" + layout + struct.pack("<4sI", b"data", len(noise)) + noise
    return struct.pack("<4sI", b"RIFF", len(chunks)) + chunks


def _speech_events(content: bytes, words: int) -> Iterator[bytes]:
    for at in range(0, len(content), 192):
        piece = base64.b64encode(content[at : at + 192]).decode()
        yield event({"type": "speech.audio.delta", "audio": piece})
    usage = {"input_tokens": words, "output_tokens": len(content), "total_tokens": words + len(content)}
    yield event({"type": "speech.audio.done", "usage": usage})


def transcribe(call: ApiCall) -> FakeResponse:
    return _transcription(call, "transcribe")


def translate(call: ApiCall) -> FakeResponse:
    return _transcription(call, "translate")


def _transcription(call: ApiCall, task: str) -> FakeResponse:
    """The text is a function of the uploaded bytes: a damaged upload gives another text."""
    form = call.form
    params = form.params
    upload = form.file("file")
    model = params.required_text("model")
    params.check_number("temperature", 0, 1)
    wanted = params.choice("response_format", ("json", "text", "srt", "verbose_json", "vtt"), "json")
    text = sentence(seed_of(task, hashlib.sha256(upload.content).hexdigest()))
    if params.flag("stream") and model != "whisper-1":  # OpenAI ignores the parameter for whisper-1
        return event_stream(_transcript_events(text))
    seconds = count(text) * _SECONDS_PER_WORD
    usage = {"usage": {"type": "duration", "seconds": seconds}} if task == "transcribe" else {}
    match wanted:
        case "json":
            return FakeResponse.json({"text": text, **usage})
        case "verbose_json":
            language = params.text("language", "english") if task == "transcribe" else "english"
            timed = _timed(text) if "word" in params.texts("timestamp_granularities", at_most=2) else None
            verbose = {"task": task, "language": language, "duration": seconds, "text": text, **usage}
            return FakeResponse.json(
                {**verbose, "segments": [_segment(text, seconds)], **({"words": timed} if timed else {})}
            )
        case "srt":
            return _plain(f"1\n{_clock(0, ',')} --> {_clock(seconds, ',')}\n{text}\n\n")
        case "vtt":
            return _plain(f"WEBVTT\n\n{_clock(0, '.')} --> {_clock(seconds, '.')}\n{text}\n\n")
        case _:
            return _plain(f"{text}\n")


def _transcript_events(text: str) -> Iterator[bytes]:
    for word in tokens(text):
        yield event({"type": "transcript.text.delta", "delta": word})
    spent = {"input_tokens": 0, "output_tokens": count(text), "total_tokens": count(text)}
    usage = {"type": "tokens", **spent, "input_token_details": {"text_tokens": 0, "audio_tokens": 0}}
    yield event({"type": "transcript.text.done", "text": text, "usage": usage})


def _segment(text: str, seconds: float) -> dict[str, Any]:
    return {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": text,
        "tokens": list(range(count(text))),
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.01,
    }


def _timed(text: str) -> list[dict[str, Any]]:
    return [
        {"word": word, "start": at * _SECONDS_PER_WORD, "end": (at + 1) * _SECONDS_PER_WORD}
        for at, word in enumerate(text.split())
    ]


def _plain(text: str) -> FakeResponse:
    return FakeResponse(200, {"content-type": "text/plain; charset=utf-8"}, text.encode())


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:"
        f"{milliseconds // 1000 % 60:02}{point}{milliseconds % 1000:03}"
    )


ENDPOINTS: EndpointTable = {
    "/v1/images/generations": {"POST": generate_image},
    "/v1/images/edits": {"POST": edit_image},
    "/v1/images/variations": {"POST": vary_image},
    "/images/{name}": {"GET": download_image},
    "/v1/audio/speech": {"POST": speech},
    "/v1/audio/transcriptions": {"POST": transcribe},
    "/v1/audio/translations": {"POST": translate},
}
