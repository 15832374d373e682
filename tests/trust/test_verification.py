"""The twelve steps of verification, a failing test for each; then the attacks, by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.component.wasm import COMPONENT_PREAMBLE
from host.core.names import Digest, Reference
from host.errors import InputError, ManifestError, NotAComponent, VerificationFailed
from host.trust.artifact import admit
from host.trust.bundle import MAX_BUNDLES, Bundle, sign
from host.trust.keys import PublicKey, SigningKey
from host.trust.verification import Rule, Trust, TrustedKey, VerifiedArtifact, verify
from tests.trust.conftest import HOSTILE, component, reference, tool, trusting

NOBODY = Trust()


def bundle(wasm: bytes, *keys: SigningKey) -> list[str]:
    return [sign(wasm, key).text() for key in keys]


def failed(step: int, wasm: bytes, bundles: list[str], trust: Trust, **asked) -> VerificationFailed:
    """Returns the failure, which is at `step` and says so."""
    with pytest.raises(VerificationFailed) as caught:
        verify(wasm, bundles, **{"reference": reference(), "trust": trust} | asked)
    assert caught.value.message.startswith(f"verification step {step} (")
    assert caught.value.step == caught.value.as_dict()["step"] == step
    assert caught.value.exit_status == 5
    return caught.value


def test_what_a_trusted_key_signed_is_verified(key: SigningKey) -> None:
    verified = verify(tool(), bundle(tool(), key), reference=reference(), trust=trusting(key))
    assert verified.artifact == admit(tool())
    assert verified.signers == (key.public.id,)


# The steps, one by one


@pytest.mark.parametrize("wasm", [b"", b"(component)", b"\0asm\x01\0\0\0", tool()[:-1]])
def test_step_2_what_is_no_component_is_refused_however_it_is_signed(wasm: bytes, key: SigningKey) -> None:
    with pytest.raises(NotAComponent):
        verify(wasm, bundle(wasm, key), reference=reference(), trust=trusting(key))


def test_step_2_a_manifest_that_cannot_be_read_is_refused_however_it_is_signed(key: SigningKey) -> None:
    for mistake in ({"secrets": [5]}, {"version": "one"}, {"id": "acme/tool"}):
        wasm = component(**{"id": "catalyst:acme.tool", "version": "1.0.0"} | mistake)
        with pytest.raises(ManifestError):
            verify(wasm, bundle(wasm, key), reference=reference(), trust=trusting(key))


def test_step_1_the_digest_is_the_one_that_was_asked_for(key: SigningKey) -> None:
    signed = bundle(tool(), key)
    assert verify(tool(), signed, reference=reference(), trust=trusting(key), pinned=Digest.of(tool()))
    failed(1, tool(), signed, trusting(key), pinned=Digest.of(b"what was asked for"))


@pytest.mark.parametrize(
    ("manifest", "asked"),
    [
        pytest.param({"id": "catalyst:acme.other", "version": "1.0.0"}, reference(), id="another name"),
        pytest.param({"id": "catalyst:globex.tool", "version": "1.0.0"}, reference(), id="another namespace"),
        pytest.param({"id": "reagent:acme.tool", "version": "1.0.0"}, reference(), id="another type"),
        pytest.param({"id": "catalyst:acme.tool", "version": "0.9.0"}, reference(), id="another version"),
        pytest.param({"id": "catalyst:acme.tool", "version": "1.0.0+1"}, reference(), id="another build of the version"),
        pytest.param({"id": "catalyst:acme.tool"}, reference(), id="no version"),
        pytest.param({"id": "catalyst:acme.tool"}, reference(""), id="no version, and none asked for"),
        pytest.param({"version": "1.0.0"}, reference(), id="no name"),
        pytest.param({"id": "tool", "version": "1.0.0"}, reference(), id="a name without a namespace, which is local"),
        pytest.param({}, reference(), id="nothing"),
    ],
)  # fmt: skip
def test_step_3_a_signature_speaks_for_the_name_inside(
    manifest: dict[str, str], asked: Reference, key: SigningKey
) -> None:
    failed(3, component(**manifest), bundle(component(**manifest), key), trusting(key), reference=asked)


def test_step_3_a_component_without_a_manifest_cannot_be_signed_for_a_name(key: SigningKey) -> None:
    failed(3, COMPONENT_PREAMBLE, bundle(COMPONENT_PREAMBLE, key), trusting(key))


def test_step_3_any_version_is_the_one_inside(key: SigningKey) -> None:
    assert verify(tool("3.2.1"), bundle(tool("3.2.1"), key), reference=reference(""), trust=trusting(key))


def test_step_4_an_unsigned_artifact_is_refused(key: SigningKey) -> None:
    failed(4, tool(), [], trusting(key))


# Steps 5 to 10: the files that make.py makes in tests/trust/hostile, each named by its sin.

FAILING = {
    5: {
        "a_list", "base64_with_a_line_break", "base64_with_other_last_bits", "certificate",
        "certificate_beside_the_key", "certificate_chain", "cut_short", "digest_in_hex", "digest_missing",
        "digest_too_short", "dsse_envelope", "dsse_envelope_beside_the_signature", "duplicate_keys",
        "duplicate_keys_inside", "empty", "hint_is_a_number", "hint_missing", "huge",
        "media_type_missing", "media_type_of_another_version", "nested_deeply", "sha512_digest",
        "sha512_digest_called_sha256", "signature_empty", "signature_missing", "signature_null", "truncated_base64",
        "unknown_field",
    },
    6: {"digest_lies", "signature_of_other_bytes"},
    7: {"hint_of_nobody", "key_of_a_stranger"},
    8: {"key_that_was_revoked"},
    9: {"key_of_another_namespace"},
    10: {
        "hint_lies", "hint_of_a_key_of_another_kind", "signature_in_fixed_width", "signature_of_other_bytes_under_this_digest",
        "signature_of_zeros", "signature_over_the_digest", "signature_with_a_tail",
    },
}  # fmt: skip
HONEST = {
    "algorithm_as_a_number", "honest", "honest_ed25519", "honest_with_a_log_entry_and_a_timestamp", "media_type_as_it_was_once",
}  # fmt: skip


def hostile(name: str) -> str:
    return (HOSTILE / f"{name}.sigstore.json").read_text()


@pytest.fixture(scope="module")
def operator() -> Trust:
    """A Trust with the public keys of the hostile bundles."""

    def trusted(name: str, namespace: str = "acme", *, revoked: bool = False) -> TrustedKey:
        return TrustedKey(PublicKey.parse((HOSTILE / f"{name}.pem").read_text()), frozenset({namespace}), revoked)

    return Trust(
        [
            trusted("signer"),
            trusted("signer_ed25519"),
            trusted("revoked", revoked=True),
            trusted("of_another_namespace", "globex"),
        ]
    )


def test_every_hostile_bundle_has_its_step() -> None:
    assert {file.name.removesuffix(".sigstore.json") for file in HOSTILE.glob("*.sigstore.json")} == HONEST.union(
        *FAILING.values()
    )


@pytest.mark.parametrize("name", sorted(HONEST))
def test_an_honest_bundle_is_accepted(name: str, operator: Trust) -> None:
    assert len(verify(tool(), [hostile(name)], reference=reference(), trust=operator).signers) == 1


@pytest.mark.parametrize(("step", "name"), [(step, name) for step, names in FAILING.items() for name in sorted(names)])
def test_a_hostile_bundle_fails_at_its_step(step: int, name: str, operator: Trust) -> None:
    failed(step, tool(), [hostile(name)], operator)


def test_step_5_more_signatures_than_are_looked_at_are_refused(key: SigningKey) -> None:
    assert verify(tool(), bundle(tool(), *[key] * MAX_BUNDLES), reference=reference(), trust=trusting(key))
    failed(5, tool(), bundle(tool(), *[key] * (MAX_BUNDLES + 1)), trusting(key))


def test_step_11_a_threshold_is_of_keys_that_signed(key: SigningKey, other_key: SigningKey) -> None:
    trust = trusting(key, other_key, acme=Rule(threshold=2))
    assert verify(tool(), bundle(tool(), key, other_key), reference=reference(), trust=trust).signers == (
        key.public.id,
        other_key.public.id,
    )
    failed(11, tool(), bundle(tool(), key), trust)


def test_step_11_tells_why_the_others_do_not_count(key: SigningKey, other_key: SigningKey) -> None:
    trust = trusting(key, other_key, acme=Rule(threshold=2))
    failure = failed(11, tool(), [*bundle(tool(), key), *bundle(tool("1.0.1"), other_key)], trust)
    assert "1 key of the 2 that are needed" in failure.message
    assert "verification step 6" in failure.message


@pytest.mark.parametrize(
    ("version", "newest"),
    [
        pytest.param("1.0.0", "1.0.1", id="a patch"),
        pytest.param("1.9.0", "1.10.0", id="as numbers, not as texts"),
        pytest.param("1.0.0-rc.1", "1.0.0", id="what came before the release"),
        pytest.param("1.0.0-rc.2", "1.0.0-rc.10", id="an earlier candidate"),
    ],
)
def test_step_12_an_older_version_is_refused_unless_it_was_asked_for(
    version: str, newest: str, key: SigningKey
) -> None:
    signed, trust = bundle(tool(version), key), trusting(key)
    failed(12, tool(version), signed, trust, reference=reference(version), newest=newest)
    assert verify(tool(version), signed, reference=reference(version), trust=trust, newest=newest, older_allowed=True)


@pytest.mark.parametrize(
    ("version", "newest"),
    [("1.0.0", ""), ("1.0.0", "1.0.0"), ("1.10.0", "1.9.0"), ("1.0.0", "1.0.0-rc.1"), ("1.0.0+a", "1.0.0+b")],
)
def test_step_12_what_is_as_new_is_no_way_back(version: str, newest: str, key: SigningKey) -> None:
    asked = reference(version)
    assert verify(tool(version), bundle(tool(version), key), reference=asked, trust=trusting(key), newest=newest)


# The attacks


def test_tampered_with_after_it_was_signed(key: SigningKey) -> None:
    failed(
        6,
        component(id="catalyst:acme.tool", version="1.0.0", domains=["evil.example"]),
        bundle(tool(), key),
        trusting(key),
    )


def test_signed_by_nobody_who_is_trusted(key: SigningKey, other_key: SigningKey) -> None:
    failure = failed(7, tool(), bundle(tool(), other_key), trusting(key))
    assert failure.hint is not None
    assert "host trust add KEY.pem --namespace acme" in failure.hint
    assert failure.message.endswith(f"no trusted key is {other_key.public.id}")
    failed(7, tool(), bundle(tool(), key), NOBODY)


def test_re_signed_by_another_for_a_namespace_that_is_not_its_own(key: SigningKey, other_key: SigningKey) -> None:
    trust = Trust(
        [TrustedKey(key.public, frozenset({"acme"})), TrustedKey(other_key.public, frozenset({"globex", "initech"}))]
    )
    failure = failed(9, tool(), bundle(tool(), other_key), trust)
    assert failure.hint is not None
    assert f"host trust add {other_key.public.id} --namespace acme" in failure.hint


def test_re_signed_by_another_in_the_name_of_the_trusted_key(key: SigningKey, other_key: SigningKey) -> None:
    forged = Bundle(Digest.of(tool()), key.public.hint, other_key.sign(tool())).text()
    failed(10, tool(), [forged], trusting(key, other_key))


def test_rolled_back_to_a_version_with_a_genuine_signature(key: SigningKey) -> None:
    failed(12, tool("1.0.0"), bundle(tool("1.0.0"), key), trusting(key), newest="2.0.0")


def test_rolled_back_under_the_new_versions_name(key: SigningKey) -> None:
    failed(3, tool("1.0.0"), bundle(tool("1.0.0"), key), trusting(key), reference=reference("2.0.0"), newest="2.0.0")


def test_changed_after_it_was_installed_and_signed_anew(key: SigningKey) -> None:
    changed = component(id="catalyst:acme.tool", version="1.0.0", secrets=["OPENAI_API_KEY"])
    failed(1, changed, bundle(changed, key), trusting(key), pinned=Digest.of(tool()))


def test_mix_and_match_of_one_versions_signature_with_anothers_bytes(key: SigningKey) -> None:
    failed(6, tool("2.0.0"), bundle(tool("1.0.0"), key), trusting(key), reference=reference("2.0.0"))


def test_one_of_the_signers_own_artifacts_passed_off_as_another(key: SigningKey) -> None:
    other = component(id="catalyst:acme.other", version="1.0.0")
    failed(3, other, bundle(other, key), trusting(key))


def test_a_revoked_key_signs_nothing_however_long_ago(key: SigningKey) -> None:
    failed(8, tool(), bundle(tool(), key), trusting(key, revoked=True))


def test_a_key_without_a_namespace_signs_nothing(key: SigningKey) -> None:
    failed(9, tool(), bundle(tool(), key), Trust([TrustedKey(key.public, frozenset())]))


def test_a_key_for_local_signs_nothing_else(key: SigningKey) -> None:
    failed(9, tool(), bundle(tool(), key), trusting(key, namespace="local"))


def test_the_same_key_twice_does_not_reach_a_threshold_of_two(key: SigningKey, other_key: SigningKey) -> None:
    trust = trusting(key, other_key, acme=Rule(threshold=2))
    signatures = bundle(tool(), key, key)
    assert signatures[0] != signatures[1]  # ECDSA makes a new signature each time
    failed(11, tool(), signatures, trust)
    failed(11, tool(), [signatures[0]] * 2, trust)


def test_one_key_in_two_entries_is_no_trust_at_all(key: SigningKey) -> None:
    spelt = PublicKey.parse(f"the same key\n{key.public.pem}")
    with pytest.raises(InputError, match="there twice"):
        Trust([TrustedKey(key.public, frozenset({"acme"}), revoked=True), TrustedKey(spelt, frozenset({"acme"}))])


@pytest.mark.parametrize("threshold", [0, -1])
@pytest.mark.parametrize("required", [True, False])
def test_a_threshold_below_one_is_refused_also_where_no_signature_is_asked_for(threshold: int, required: bool) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Rule(require_signature=required, threshold=threshold)


def test_a_verified_artifact_is_made_by_verification_alone() -> None:
    with pytest.raises(TypeError, match="made by verify"):
        VerifiedArtifact(admit(tool()), ("sha256:" + "0" * 64,), object())


# Several signatures, some of them invalid


@pytest.mark.parametrize("name", sorted(set.union(*FAILING.values()) - {"key_that_was_revoked"}))
def test_a_bundle_that_fails_takes_nothing_from_one_that_holds(name: str, operator: Trust) -> None:
    for bundles in ([hostile(name), hostile("honest")], [hostile("honest"), hostile(name)]):
        assert len(verify(tool(), bundles, reference=reference(), trust=operator).signers) == 1


def test_of_several_failures_the_one_that_came_furthest_is_told(operator: Trust) -> None:
    failed(10, tool(), [hostile(name) for name in ("empty", "hint_lies", "key_of_a_stranger")], operator)


# Artifacts that need no signature


def test_in_local_an_unsigned_artifact_passes() -> None:
    asked = reference(namespace="local")
    assert verify(tool(namespace="local"), [], reference=asked, trust=NOBODY).signers == ()
    assert verify(COMPONENT_PREAMBLE, [], reference=asked, trust=NOBODY).signers == ()
    assert verify(component(description="no name"), [], reference=asked, trust=NOBODY).signers == ()


def test_in_local_a_name_that_is_inside_counts() -> None:
    failed(3, tool(), [], NOBODY, reference=reference(namespace="local"))
    failed(3, tool("2.0.0", "local"), [], NOBODY, reference=reference(namespace="local"))


def test_in_local_the_signature_of_a_stranger_says_nothing(key: SigningKey) -> None:
    wasm, asked = tool(namespace="local"), reference(namespace="local")
    assert verify(wasm, bundle(wasm, key), reference=asked, trust=NOBODY).signers == ()
    assert verify(wasm, bundle(wasm, key), reference=asked, trust=trusting(key)).signers == ()


def test_in_local_a_false_signature_is_refused_all_the_same(key: SigningKey, other_key: SigningKey) -> None:
    wasm, asked = tool(namespace="local"), reference(namespace="local")
    trust = trusting(key, namespace="local")
    forged = Bundle(Digest.of(wasm), key.public.hint, other_key.sign(wasm)).text()
    failed(5, wasm, ["{}", *bundle(wasm, other_key)], trust, reference=asked)
    failed(6, wasm, bundle(tool(), key), trust, reference=asked)
    failed(8, wasm, bundle(wasm, key), trusting(key, namespace="local", revoked=True), reference=asked)
    failed(10, wasm, [forged], trust, reference=asked)
    assert verify(wasm, [forged, *bundle(wasm, key)], reference=asked, trust=trust).signers == (key.public.id,)


def test_where_no_signature_is_asked_for_any_version_will_do(key: SigningKey) -> None:
    old, asked = tool("1.0.0", "local"), reference("1.0.0", "local")
    assert verify(old, [], reference=asked, trust=NOBODY, newest="2.0.0")
    failed(12, old, bundle(old, key), trusting(key, namespace="local").elsewhere(), reference=asked, newest="2.0.0")


def test_what_was_changed_is_not_even_looked_at(key: SigningKey) -> None:
    failed(1, b"no component", [], trusting(key), pinned=Digest.of(tool()))


def test_a_namespace_asks_for_what_its_rule_says(key: SigningKey) -> None:
    local = Trust(rules={"local": Rule()})
    failed(4, tool(namespace="local"), [], local, reference=reference(namespace="local"))
    assert verify(tool(), [], reference=reference(), trust=Trust(rules={"acme": Rule(require_signature=False)}))


@pytest.mark.parametrize("namespace", ["acme", "loca", "local-", "localx", "lo-cal"])
def test_every_other_namespace_asks_for_one_signature(namespace: str) -> None:
    assert NOBODY.rule(namespace) == Rule(require_signature=True, threshold=1)
    assert NOBODY.rule("local") == Rule(require_signature=False, threshold=1)


def test_what_comes_from_elsewhere_is_signed_also_where_it_calls_itself_local(key: SigningKey) -> None:
    wasm, asked = tool(namespace="local"), reference(namespace="local")
    failed(4, wasm, [], NOBODY.elsewhere(), reference=asked)
    failed(7, wasm, bundle(wasm, key), NOBODY.elsewhere(), reference=asked)
    trust = trusting(key, namespace="local")
    assert verify(wasm, bundle(wasm, key), reference=asked, trust=trust.elsewhere()).signers == (key.public.id,)


def test_an_operators_own_rule_holds_for_what_comes_from_elsewhere_too() -> None:
    unsigned = Rule(require_signature=False)
    assert Trust(rules={"local": unsigned}).elsewhere().rule("local") == unsigned
    assert Trust(rules={"acme": unsigned}).elsewhere().rule("acme") == unsigned


# Every single change

KEY = SigningKey.generate()
WASM = tool()
TEXT = sign(WASM, KEY).text()


def flipped(data: bytes, at: int, bits: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


@given(st.integers(0, len(WASM) - 1), st.integers(1, 255))
def test_no_byte_of_the_artifact_can_be_another(at: int, bits: int) -> None:
    with pytest.raises((VerificationFailed, NotAComponent, ManifestError)):
        verify(flipped(WASM, at, bits), [TEXT], reference=reference(), trust=trusting(KEY))


@given(st.data(), st.integers(1, 255))
def test_no_byte_of_the_signature_can_be_another(data: st.DataObject, bits: int) -> None:
    honest = Bundle.parse(TEXT)
    at = data.draw(st.integers(0, len(honest.signature) - 1))
    forged = Bundle(honest.digest, honest.hint, flipped(honest.signature, at, bits))
    failed(10, WASM, [forged.text()], trusting(KEY))


@given(st.integers(0, len(TEXT) - 1), st.characters(exclude_categories=["Cs"]))
def test_no_character_of_the_bundle_can_be_another(at: int, character: str) -> None:
    changed = TEXT[:at] + character + TEXT[at + 1 :]
    if changed != TEXT:
        with pytest.raises(VerificationFailed):
            verify(WASM, [changed], reference=reference(), trust=trusting(KEY))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_other_json_passes_for_a_bundle(document: object) -> None:
    failed(5, WASM, [json.dumps(document)], trusting(KEY))
