"""Whole artifacts to a real registry and back, and the attacks of a hostile registry."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from host.component.manifest import Manifest
from host.core.names import Digest
from host.errors import ArtifactError, InputError, RegistryError
from host.oci import layout
from host.oci.documents import EMPTY, IMAGE_INDEX, IMAGE_MANIFEST, Descriptor, ImageManifest, as_bytes
from host.oci.transfer import pull, push
from host.trust.bundle import MAX_BUNDLES
from tests.oci.conftest import Steps, client, new_repository

WASM = b"\0asm" + bytes(range(256)) * 400
INTERFACES = {"imports": ("cyfr:http/fetch@0.1.0",), "exports": ("cyfr:catalyst/run@0.1.0",)}


def bundle(words: str) -> str:
    return json.dumps({"mediaType": layout.BUNDLE, "messageSignature": {"signature": words}})


@pytest.fixture
def repository() -> str:
    return new_repository()


def pushed(address: str, repository: str, *, tag: str = "", bundles=(), wasm: bytes = WASM, **more) -> Digest:
    with client(address, repository=repository, wanted=tag) as registry:
        return push(registry, wasm=wasm, bundles=bundles, **INTERFACES, **more)


def pulled(address: str, repository: str, wanted: str = "", **more):
    with client(address, repository=repository, wanted=wanted) as registry:
        return pull(registry, **more)


def test_what_is_pushed_is_pulled(registry, repository):
    about = Manifest(id="local.openai", version="0.1.0")
    digest = pushed(registry, repository, tag=":0.1.0", bundles=[bundle("ü"), bundle("b")], manifest=about)
    found = pulled(registry, repository, ":0.1.0")
    assert found.wasm == WASM
    assert found.layer == Digest.of(WASM)
    assert found.digest == digest
    assert found.bundles == (bundle("ü"), bundle("b"))
    assert (found.imports, found.exports) == (INTERFACES["imports"], INTERFACES["exports"])
    assert found.annotations["org.opencontainers.image.version"] == "0.1.0"


def test_it_is_pulled_by_its_digest(registry, repository):
    digest = pushed(registry, repository)
    assert pulled(registry, repository, f"@{digest}").wasm == WASM


def test_without_a_tag_it_is_the_latest(registry, repository):
    pushed(registry, repository)
    assert pulled(registry, repository).wasm == WASM
    assert pulled(registry, repository, ":latest").bundles == ()


def test_pushing_again_changes_nothing(registry, relay, repository):
    first = pushed(registry, repository, bundles=[bundle("a")])
    between = relay(registry)
    assert pushed(between.address, repository, bundles=[bundle("a")]) == first
    assert between.paths("POST") == []
    assert between.paths("PATCH") == []


def test_what_is_here_already_is_not_fetched(registry, relay, repository):
    pushed(registry, repository, bundles=[bundle("a")])
    between = relay(registry)
    found = pulled(between.address, repository, held={Digest.of(WASM): WASM}.get)
    assert (found.wasm, found.bundles) == (WASM, (bundle("a"),))
    assert not [one for one in between.asked if Digest.of(WASM).value in one.path]


def test_what_is_here_and_was_changed_is_fetched(registry, repository):
    pushed(registry, repository)
    assert pulled(registry, repository, held=lambda _: WASM + b"!").wasm == WASM


def test_a_signature_can_be_added_later(registry, repository):
    pushed(registry, repository, bundles=[bundle("a")])
    pushed(registry, repository, bundles=[bundle("b")])
    assert pulled(registry, repository).bundles == (bundle("a"), bundle("b"))


def test_the_tag_is_moved_last(registry, relay, repository):
    between = relay(registry)
    pushed(between.address, repository, tag=":v1", bundles=[bundle("a")])
    assert between.paths("PUT")[-1] == f"/v2/{repository}/manifests/v1"


def test_progress_is_told(registry, repository):
    up, down = Steps(), Steps()
    pushed(registry, repository, progress=up)
    pulled(registry, repository, progress=down)
    for steps in (up, down):
        assert [(name, total, sum(advances)) for name, total, advances in steps.seen] == [
            ("the component", len(WASM), len(WASM))
        ]
        assert steps.ended == 1


def test_a_digest_that_is_not_what_is_pushed_is_refused(registry, repository):
    with client(registry, repository=repository, wanted="@sha256:" + "0" * 64) as one, pytest.raises(InputError):
        push(one, wasm=WASM, **INTERFACES)


def test_what_is_no_bundle_is_refused_before_anything_is_sent(registry, relay, repository):
    between = relay(registry)
    with pytest.raises(InputError):
        pushed(between.address, repository, bundles=["{}"])
    assert between.asked == []


def test_more_bundles_than_are_ever_read_are_refused(registry, repository):
    with pytest.raises(InputError, match=f"{MAX_BUNDLES} signatures"):
        pushed(registry, repository, bundles=[bundle(str(number)) for number in range(MAX_BUNDLES + 1)])


def test_what_is_not_there_is_said_with_a_remedy(registry, repository):
    with pytest.raises(RegistryError) as caught:
        pulled(registry, repository, ":none")
    assert caught.value.status == 404
    assert f"{registry}/{repository}:none" in caught.value.message
    assert f"docker login {registry}" in (caught.value.hint or "")


# A hostile registry: a relay changes the answers of the real one.


def _replaced(path_part: str, change, *, method: str = "GET"):
    """Replaces every answer for a path that contains `path_part` by `change(status, headers, body)`."""

    def behave(visit):
        if visit.asked.method == method and path_part in visit.asked.path:
            visit.send(*change(*visit.upstream()))
        else:
            visit.forward()

    return behave


def test_a_registry_that_serves_other_bytes_for_a_digest(registry, relay, repository):
    pushed(registry, repository)
    evil = relay(
        registry, _replaced(str(Digest.of(WASM)), lambda status, headers, body: (status, headers, b"x" + body[1:]))
    )
    with pytest.raises(RegistryError, match="other bytes than sha256"):
        pulled(evil.address, repository)


def test_a_registry_that_serves_another_manifest_for_a_digest(registry, relay, repository):
    digest = pushed(registry, repository)
    evil = relay(registry, _replaced("/manifests/", lambda status, headers, body: (status, headers, body + b" ")))
    with pytest.raises(RegistryError, match="other bytes than sha256"):
        pulled(evil.address, repository, f"@{digest}")


def test_a_registry_that_serves_another_manifest_and_says_so(registry, relay, repository):
    """Its header fits its bytes, but not the requested digest."""
    digest = pushed(registry, repository)
    other = pushed(registry, repository, wasm=WASM + b"!", tag=":other")

    def behave(visit):
        if f"/manifests/{digest}" in visit.asked.path:
            with client(registry, repository=repository, wanted=":other") as real:
                visit.send(
                    200, {"Content-Type": IMAGE_MANIFEST, "Docker-Content-Digest": str(other)}, real.manifest().content
                )
        else:
            visit.forward()

    with pytest.raises(RegistryError, match="other bytes than sha256"):
        pulled(relay(registry, behave).address, repository, f"@{digest}")


def test_a_tag_whose_digest_header_lies(registry, relay, repository):
    pushed(registry, repository)
    lie = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    evil = relay(registry, _replaced("/manifests/latest", lambda status, headers, body: (status, headers | lie, body)))
    with pytest.raises(RegistryError, match="other bytes than sha256:0000"):
        pulled(evil.address, repository)


def test_a_truncated_blob(registry, relay, repository):
    """Each answer is complete, with too few bytes."""
    pushed(registry, repository)
    evil = relay(registry, _replaced(str(Digest.of(WASM)), lambda status, headers, body: (200, headers, WASM[:1000])))
    with pytest.raises(RegistryError, match="ends too early"):
        pulled(evil.address, repository)


def test_an_endless_blob(registry, relay, repository):
    pushed(registry, repository)

    def behave(visit):
        if str(Digest.of(WASM)) not in visit.asked.path:
            return visit.forward()
        visit.send(200, {"Transfer-Encoding": "chunked"}, b"")
        while True:  # until the client hangs up
            visit.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")

    with pytest.raises(RegistryError, match=f"sends more than the {len(WASM)} B"):
        pulled(relay(registry, behave).address, repository)


def test_a_manifest_bomb(registry, relay, repository):
    pushed(registry, repository)
    evil = relay(
        registry,
        _replaced(
            "/manifests/",
            lambda status, headers, body: (200, {"Content-Type": IMAGE_MANIFEST}, b" " * (4 * 1024 * 1024 + 1)),
        ),
    )
    with pytest.raises(RegistryError, match="more than 4194304 bytes"):
        pulled(evil.address, repository)


def test_a_compressed_bomb_is_not_unpacked(registry, relay, repository):
    import gzip

    pushed(registry, repository)
    packed = gzip.compress(b" " * 50_000_000)
    headers = {"Content-Type": IMAGE_MANIFEST, "Content-Encoding": "gzip"}
    evil = relay(registry, _replaced("/manifests/", lambda *answer: (200, headers, packed)))
    with pytest.raises(RegistryError, match="more than 4194304 bytes"):
        pulled(evil.address, repository)


def test_an_index_in_place_of_the_manifest(registry, repository):
    digest = pushed(registry, repository)
    with client(registry, repository=repository) as one:
        entry = Descriptor(IMAGE_MANIFEST, digest, len(one.manifest().content)).as_json()
        one.put_manifest(
            as_bytes({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [entry]}), IMAGE_INDEX, "many"
        )
    with pytest.raises(ArtifactError, match=r"image\.index"):
        pulled(registry, repository, ":many")


# Referrers


def test_a_referrer_that_is_not_a_bundle_is_passed_over(registry, repository):
    digest = pushed(registry, repository, bundles=[bundle("a")])
    with client(registry, repository=repository) as one:
        subject = Descriptor(IMAGE_MANIFEST, digest, len(one.manifest().content))
        one.upload(b"{}", "a config")
        one.upload(b"\xff", "junk")
        config, junk = Descriptor.of(b"{}", EMPTY), Descriptor.of(b"\xff", layout.BUNDLE)
        one.put_referrers(
            digest,
            [
                ImageManifest(config, (), "application/spdx+json", subject),
                ImageManifest(config, (), layout.BUNDLE, subject),
                ImageManifest(config, (junk,), layout.BUNDLE, subject),
                ImageManifest(config, (junk,), layout.BUNDLE),
            ],
        )
    assert pulled(registry, repository).bundles == (bundle("a"),)


def test_a_referrer_that_the_registry_has_no_more_is_passed_over(registry, relay, repository):
    pushed(registry, repository, bundles=[bundle("a"), bundle("b")])
    gone = str(Digest.of(bundle("a").encode()))
    between = relay(registry, _replaced(gone, lambda *answer: (404, {}, b"")))
    assert pulled(between.address, repository).bundles == (bundle("b"),)


def test_a_bundle_with_other_bytes_than_its_digest_ends_the_pull(registry, relay, repository):
    pushed(registry, repository, bundles=[bundle("a")])
    changed = str(Digest.of(bundle("a").encode()))
    evil = relay(registry, _replaced(changed, lambda status, headers, body: (status, headers, bundle("b").encode())))
    with pytest.raises(RegistryError, match="other bytes than sha256"):
        pulled(evil.address, repository)


def _with_referrers(page):
    """A registry with the referrers API. `page(subject, query)` returns `(status, headers, body)`."""

    def behave(visit):
        place = urlsplit(visit.asked.path)
        if "/referrers/" in place.path:
            visit.send(*page(place.path.rpartition("/")[2], parse_qs(place.query)))
        else:
            visit.forward()

    return behave


def _index(entries) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries}).encode()


def test_ten_thousand_referrers_cost_no_more_requests_than_bundles_are_looked_at(registry, relay, repository):
    pushed(registry, repository)
    entries = [
        Descriptor(IMAGE_MANIFEST, Digest.of(str(number).encode()), 9, layout.BUNDLE).as_json()
        for number in range(10_000)
    ]
    evil = relay(
        registry, _with_referrers(lambda subject, query: (200, {"Content-Type": IMAGE_INDEX}, _index(entries)))
    )
    assert pulled(evil.address, repository).bundles == ()
    assert len([path for path in evil.paths("GET") if "/manifests/sha256:" in path]) == MAX_BUNDLES


def test_pages_of_referrers_without_end(registry, relay, repository):
    pushed(registry, repository)
    headers = {"Content-Type": IMAGE_INDEX, "Link": '<?next=1>; rel="next"'}
    evil = relay(registry, _with_referrers(lambda subject, query: (200, headers, _index([]))))
    assert pulled(evil.address, repository).bundles == ()
    assert len([path for path in evil.paths("GET") if "/referrers/" in path]) == 10


def test_a_registry_that_lists_referrers_is_asked_and_no_tag_is_kept(registry, relay, repository):
    kept: list[dict] = []

    def behave(visit):
        if "/referrers/" in visit.asked.path:
            assert parse_qs(urlsplit(visit.asked.path).query) == {"artifactType": [layout.BUNDLE]}
            visit.send(200, {"Content-Type": IMAGE_INDEX, "OCI-Filters-Applied": "artifactType"}, _index(kept))
        elif visit.asked.method == "PUT" and b'"subject"' in visit.asked.body:
            status, headers, body = visit.upstream()
            kept.append(ImageManifest.parse(visit.asked.body).described().as_json())
            visit.send(status, headers | {"OCI-Subject": json.loads(visit.asked.body)["subject"]["digest"]}, body)
        else:
            visit.forward()

    between = relay(registry, behave)
    pushed(between.address, repository, bundles=[bundle("a")])
    assert pulled(between.address, repository).bundles == (bundle("a"),)
    assert not [one.path for one in between.asked if "/manifests/sha256-" in one.path]


def test_pages_of_referrers_are_followed(registry, relay, repository):
    digest = pushed(registry, repository, bundles=[bundle("a")])
    with client(registry, repository=repository) as one:
        entries = [described.as_json() for described in one.referrers(digest, layout.BUNDLE)]

    def page(subject, query):
        if "page" in query:
            return 200, {"Content-Type": IMAGE_INDEX}, _index(entries)
        return (
            200,
            {"Content-Type": IMAGE_INDEX, "Link": f'</v2/{repository}/referrers/{subject}?page=2>; rel="next"'},
            _index([]),
        )

    assert pulled(relay(registry, _with_referrers(page)).address, repository).bundles == (bundle("a"),)


def test_a_page_of_referrers_at_another_place_is_not_fetched(registry, relay, repository):
    pushed(registry, repository)
    other = relay(registry)
    headers = {"Content-Type": IMAGE_INDEX, "Link": f'<http://{other.address}/more>; rel="next"'}
    evil = relay(registry, _with_referrers(lambda subject, query: (200, headers, _index([]))))
    assert pulled(evil.address, repository).bundles == ()
    assert other.asked == []


def test_a_next_page_that_is_no_url_ends_the_pull(registry, relay, repository):
    pushed(registry, repository)
    headers = {"Content-Type": IMAGE_INDEX, "Link": '<http://[::1>; rel="next"'}
    evil = relay(registry, _with_referrers(lambda subject, query: (200, headers, _index([]))))
    with pytest.raises(RegistryError, match="no URL"):
        pulled(evil.address, repository)


def test_an_index_with_entries_of_every_kind_is_read_and_added_to(registry, relay, repository):
    """docker-registry would refuse such an index: the relay stores it."""
    junk = [None, 1, "x", [], {}, {"digest": []}, {"digest": {}}, {"digest": "sha256:x"}, {"mediaType": IMAGE_MANIFEST}]
    kept = [_index(junk)]

    def behave(visit):
        if "/manifests/sha256-" not in visit.asked.path:
            return visit.forward()
        if visit.asked.method == "PUT":
            kept.append(visit.asked.body)
            return visit.answer(201)
        return visit.send(200, {"Content-Type": IMAGE_INDEX}, kept[-1])

    between = relay(registry, behave)
    pushed(between.address, repository, bundles=[bundle("a")])
    assert json.loads(kept[-1])["manifests"][:-1] == junk
    assert pulled(between.address, repository).bundles == (bundle("a"),)


def test_two_who_sign_at_once_lose_neither_signature(registry, relay, repository):
    """Another client's index replaces ours right after the upload."""
    digest = pushed(registry, repository)
    raced = []

    def behave(visit):
        visit.forward()
        if visit.asked.method == "PUT" and "/manifests/sha256-" in visit.asked.path and not raced:
            raced.append(True)
            with client(registry, repository=repository) as other:
                other.put_manifest(_index([]), IMAGE_INDEX, f"sha256-{digest.hex}")

    pushed(relay(registry, behave).address, repository, bundles=[bundle("a")])
    assert raced
    assert pulled(registry, repository).bundles == (bundle("a"),)


def test_a_tag_that_should_be_an_index_and_is_not_is_left_alone(registry, repository):
    digest = pushed(registry, repository)
    with client(registry, repository=repository) as one:
        one.put_manifest(one.manifest().content, IMAGE_MANIFEST, f"sha256-{digest.hex}")
    with pytest.raises(RegistryError, match="index of referrers"):
        pushed(registry, repository, bundles=[bundle("a")])
