"""POST /v1/audio/{speech,transcriptions,translations} (platform.openai.com/docs/api-reference/audio)."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from host.fakes.messages import Response
from host.fakes.openai import errors
from host.fakes.openai.call import Call
from host.fakes.openai.text import count, event, event_stream, seed_of, sentence, tokens

# What each format begins with (RFC 7845, RFC 9639, ISO 14496-3 ADTS, ID3v2.4 before an MPEG frame), and its media type.
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


def speech(call: Call) -> Response:
    params = call.params
    asked = [params.required_text(name) for name in ("model", "input")]
    voice = params.required("voice")
    if len(asked[1]) > _MAX_INPUT:
        raise errors.wrong_value("input", f"string too long. Expected at most {_MAX_INPUT} characters.")
    params.check_number("speed", 0.25, 4)
    form = params.choice("response_format", tuple(_FORMATS), "mp3")
    content = sound(seed_of("speech", *asked, voice, params.raw("speed")), form)
    if params.choice("stream_format", ("audio", "sse"), "audio") == "sse":
        return event_stream(_speech_events(content, count(asked[1])))
    return Response(200, {"content-type": _FORMATS[form][1]}, content)


def sound(seed: bytes, form: str) -> bytes:
    """`form`'s magic and then noise in which all 256 byte values occur; for `wav` a playable file of 12 ms."""
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


def transcribe(call: Call) -> Response:
    return _heard(call, "transcribe")


def translate(call: Call) -> Response:
    return _heard(call, "translate")


def _heard(call: Call, task: str) -> Response:
    """The text follows from the hash of the uploaded bytes: an upload that arrives damaged reads differently."""
    form = call.form
    params = form.params
    upload = form.file("file")
    model = params.required_text("model")
    params.check_number("temperature", 0, 1)
    wanted = params.choice("response_format", ("json", "text", "srt", "verbose_json", "vtt"), "json")
    text = sentence(seed_of(task, hashlib.sha256(upload.content).hexdigest()))
    if params.flag("stream") and model != "whisper-1":  # which, as OpenAI has it, ignores the parameter
        return event_stream(_transcript_events(text))
    seconds = count(text) * _SECONDS_PER_WORD
    usage = {"type": "duration", "seconds": seconds}
    match wanted:
        case "json":
            return Response.json({"text": text, "usage": usage})
        case "verbose_json":
            language = params.text("language", "english") if task == "transcribe" else "english"
            timed = _timed(text) if "word" in params.texts("timestamp_granularities", at_most=2) else None
            verbose = {"task": task, "language": language, "duration": seconds, "text": text, "usage": usage}
            return Response.json(
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
    yield event({"type": "transcript.text.done", "text": text})


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


def _plain(text: str) -> Response:
    return Response(200, {"content-type": "text/plain; charset=utf-8"}, text.encode())


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:"
        f"{milliseconds // 1000 % 60:02}{point}{milliseconds % 1000:03}"
    )
