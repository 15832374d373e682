import asyncio
import base64
import io
import json
import re
import struct
import wave
import zlib

import httpx2
import openai
import pytest


def pixels(png):
    """Checks a PNG by hand, chunk by chunk. Returns its width and height."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        content = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + content),)
        chunks[kind] = content
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour) == (8, 2)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == height * (1 + 3 * width)
    return width, height


def test_an_url_leads_to_a_real_png(client):
    image = client.images.generate(prompt="a cat", model="dall-e-3").data[0]
    assert image.revised_prompt == "a cat"
    response = httpx2.get(image.url, trust_env=False)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert pixels(response.content) == (8, 8)


def test_base64_is_the_png_itself(client):
    response = client.images.generate(prompt="a cat", model="dall-e-2", response_format="b64_json", n=2, size="512x512")
    pngs = [base64.b64decode(image.b64_json) for image in response.data]
    assert [pixels(png) for png in pngs] == [(8, 8), (8, 8)]
    assert pngs[0] != pngs[1]
    assert [image.url for image in response.data] == [None, None]


def test_equal_prompts_have_equal_images(client):
    first, again, other = (client.images.generate(prompt=p).data[0].url for p in ("cat", "cat", "dog"))
    assert first == again != other


def test_gpt_image_gives_base64_and_counts_tokens(client):
    response = client.images.generate(prompt="a cat", model="gpt-image-1", size="auto")
    assert pixels(base64.b64decode(response.data[0].b64_json)) == (8, 8)
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


@pytest.mark.parametrize(
    ("params", "param"),
    [
        pytest.param({}, "prompt", id="no prompt"),
        pytest.param({"prompt": "x", "n": 11}, "n", id="too many"),
        pytest.param({"prompt": "x", "size": "big"}, "size", id="a size that is none"),
        pytest.param({"prompt": "x", "response_format": "png"}, "response_format", id="a format unheard of"),
    ],
)
def test_a_bad_image_request_names_its_parameter(http, params, param):
    response = http.post("/v1/images/generations", json=params)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_picture_that_is_no_png_is_not_found(http):
    assert http.get("/images/x.gif").status_code == 404
    assert http.get("/images/").status_code == 404


def test_an_url_is_the_fakes_own_whatever_the_host_header_says(http, fake):
    response = http.post("/v1/images/generations", json={"prompt": "x"}, headers={"host": "api.openai.com"})
    assert response.json()["data"][0]["url"].startswith(fake.url + "/images/")


def test_an_async_client_is_served_too(fake):
    async def ask():
        async with openai.AsyncOpenAI(base_url=fake.url + "/v1", api_key="k") as client:
            return await client.images.generate(prompt="a cat", response_format="b64_json")

    assert pixels(base64.b64decode(asyncio.run(ask()).data[0].b64_json)) == (8, 8)


SOUND = bytes(range(256)) + b"\r\n--\0"


def speak(client, **params):
    return client.audio.speech.create(**{"model": "tts-1", "voice": "alloy", "input": "Hello there.", **params})


def hear(client, content=SOUND, **params):
    return client.audio.transcriptions.create(model="whisper-1", file=("a.wav", content), **params)


@pytest.mark.parametrize(
    ("form", "magic", "content_type"),
    [
        pytest.param(None, b"ID3", "audio/mpeg", id="mp3 by default"),
        pytest.param("mp3", b"ID3", "audio/mpeg", id="mp3"),
        pytest.param("opus", b"OggS", "audio/opus", id="opus"),
        pytest.param("aac", b"\xff\xf1", "audio/aac", id="aac"),
        pytest.param("flac", b"fLaC", "audio/flac", id="flac"),
        pytest.param("wav", b"RIFF", "audio/wav", id="wav"),
        pytest.param("pcm", b"", "audio/pcm", id="pcm"),
    ],
)
def test_speech_is_bytes_of_every_value_with_the_magic_of(client, form, magic, content_type):
    answer = speak(client, **({"response_format": form} if form else {}))
    assert answer.response.headers["content-type"] == content_type
    assert answer.content.startswith(magic)
    assert set(answer.content) == set(range(256))
    assert speak(client, **({"response_format": form} if form else {})).content == answer.content


def test_wav_is_a_playable_file(client):
    with wave.open(io.BytesIO(speak(client, response_format="wav").content)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
        assert len(sound.readframes(10_000)) == 2 * sound.getnframes() > 0


def test_speech_differs_with_the_voice(client):
    assert speak(client, voice="echo").content != speak(client).content


def test_speech_can_come_as_events(http):
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello there."}
    whole = http.post("/v1/audio/speech", json=body).content
    events = http.post("/v1/audio/speech", json={**body, "stream_format": "sse"}).text.strip().split("\n\n")
    *deltas, done = [json.loads(event.removeprefix("data: ")) for event in events]
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == whole
    assert done["type"] == "speech.audio.done"


@pytest.mark.parametrize(
    ("params", "param"),
    [
        pytest.param({"input": None}, "input", id="no input"),
        pytest.param({"voice": None}, "voice", id="no voice"),
        pytest.param({"input": "x" * 4097}, "input", id="too long an input"),
        pytest.param({"response_format": "midi"}, "response_format", id="a format unheard of"),
        pytest.param({"speed": 9}, "speed", id="too fast"),
    ],
)
def test_a_bad_audio_request_names_its_parameter(client, params, param):
    with pytest.raises(openai.BadRequestError) as caught:
        speak(client, **params)
    assert caught.value.param == param


def test_a_transcription_follows_from_the_bytes(client):
    assert hear(client).text == hear(client).text
    assert hear(client).text != hear(client, SOUND[:-1]).text


def test_a_transcription_does_not_depend_on_its_format(client):
    text = hear(client).text
    assert hear(client, response_format="text") == f"{text}\n"
    for form in ("srt", "vtt"):
        assert text in hear(client, response_format=form)
    verbose = hear(client, response_format="verbose_json")
    assert (verbose.text, verbose.segments[0].text) == (text, text)


def test_srt_and_vtt_have_their_clocks(client):
    srt, vtt = (hear(client, response_format=form) for form in ("srt", "vtt"))
    assert re.fullmatch(r"1\n00:00:00,000 --> 00:00:\d\d,[05]00\n[^\n]+\n\n", srt)
    assert re.fullmatch(r"WEBVTT\n\n00:00:00\.000 --> 00:00:\d\d\.[05]00\n[^\n]+\n\n", vtt)


def test_words_have_times_when_asked(client):
    assert hear(client, response_format="verbose_json").words is None
    verbose = hear(client, response_format="verbose_json", timestamp_granularities=["word", "segment"], language="de")
    assert [word.word for word in verbose.words] == verbose.text.split()
    assert verbose.words[-1].end == verbose.duration
    assert verbose.language == "de"


def test_newer_models_stream_their_transcription(client):
    with client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", SOUND), stream=True) as events:
        *deltas, done = events
    assert "".join(event.delta for event in deltas) == done.text == hear(client).text


# The SDK marks its method as deprecated. The endpoint is not.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_translation_is_english(client):
    translate = client.audio.translations.create
    assert translate(model="whisper-1", file=("a.wav", SOUND)).text != hear(client).text
    verbose = translate(model="whisper-1", file=("a.wav", SOUND), response_format="verbose_json")
    assert verbose.language == "english"


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        pytest.param({"model": "whisper-1"}, {"other": b"x"}, "file", id="no file"),
        pytest.param({}, {"file": b"x"}, "model", id="no model"),
        pytest.param(
            {"model": "m", "response_format": "doc"}, {"file": b"x"}, "response_format", id="a format unheard of"
        ),
        pytest.param({"model": "m", "temperature": "hot"}, {"file": b"x"}, "temperature", id="a word as temperature"),
    ],
)
def test_a_bad_form_names_its_parameter(http, fields, files, param):
    response = http.post("/v1/audio/transcriptions", data=fields, files=files)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_what_is_no_form_is_refused(http):
    response = http.post("/v1/audio/transcriptions", json={"model": "whisper-1"})
    assert response.status_code == 400
    assert "multipart" in response.json()["error"]["message"]
