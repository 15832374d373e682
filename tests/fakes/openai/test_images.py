import asyncio
import base64
import struct
import zlib

import httpx2
import openai
import pytest


def pixels(png):
    """Checks a PNG by hand, chunk by chunk, and gives its size and raw rows."""
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
def test_a_bad_request_names_its_parameter(http, params, param):
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
