"""The order in which the targets of a model are asked, and which names a request has there."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from random import Random

import pytest

from host.core.names import Reference
from host.core.preference import MOST
from host.errors import InputError
from host.service.request import Routing
from host.service.targets import MOST_TARGETS, Failover, ModelTarget, group_of

ONE, TWO, THREE = (Reference.parse(f"c:local.{name}") for name in ("one", "two", "three"))


def names(targets: tuple[ModelTarget, ...]) -> str:
    return " ".join(target.reference.name for target in targets)


@pytest.mark.parametrize(
    ("targets", "drawn", "order"),
    [
        pytest.param([ModelTarget(ONE), ModelTarget(TWO)], [], "one two", id="as they are listed"),
        pytest.param([ModelTarget(TWO, priority=2), ModelTarget(ONE)], [], "one two", id="a lower priority first"),
        pytest.param([ModelTarget(ONE, weight=3), ModelTarget(TWO)], [0.0], "one two", id="by weight, the beginning of the draw"),
        pytest.param([ModelTarget(ONE, weight=3), ModelTarget(TWO)], [0.74], "one two", id="by weight, the end of its share"),
        pytest.param([ModelTarget(ONE, weight=3), ModelTarget(TWO)], [0.76], "two one", id="by weight, the share of the other"),
        pytest.param(
            [ModelTarget(THREE, priority=9, weight=MOST), ModelTarget(ONE, weight=2), ModelTarget(TWO)], [0.9], "two one three",
            id="a weight does not beat a priority",
        ),
        pytest.param([ModelTarget(ONE, weight=MOST), ModelTarget(TWO)], [1.0 - 2**-53], "two one", id="the last of all draws"),
    ],
)  # fmt: skip
def test_the_order(targets: list[ModelTarget], drawn: list[float], order: str) -> None:
    draws = iter(cycle(drawn or [0.5]))
    assert names(Failover(tuple(targets)).order(lambda: next(draws))) == order


def test_weights_are_shares_and_a_seed_repeats_them() -> None:
    group = Failover((ModelTarget(ONE, weight=3), ModelTarget(TWO, weight=1)))

    def firsts(seed: int) -> Counter[str]:
        draw = Random(seed).random
        return Counter(group.order(draw)[0].reference.name for _ in range(4_000))

    assert firsts(7) == firsts(7)
    assert 2_800 < firsts(7)["one"] < 3_200


def test_without_a_choice_nothing_is_drawn() -> None:
    def never() -> float:
        raise AssertionError

    assert names(Failover((ModelTarget(ONE), ModelTarget(TWO))).order(never)) == "one two"


@pytest.mark.parametrize("weight", [0, -1, MOST + 1, True, 1.5])
def test_a_weight_that_is_none_is_a_mistake(weight: int) -> None:
    with pytest.raises(InputError) as raised:
        ModelTarget(ONE, weight=weight)
    assert raised.value.field == "weight"
    with pytest.raises(InputError, match="priority"):
        ModelTarget(ONE, priority=weight)


@pytest.mark.parametrize("count", [0, MOST_TARGETS + 1])
def test_so_many_targets_are_a_mistake(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} targets"):
        Failover(tuple(ModelTarget(Reference.parse(f"c:local.c{number}")) for number in range(count)))


def test_one_target_twice_is_a_mistake() -> None:
    with pytest.raises(InputError, match="twice"):
        Failover((ModelTarget(ONE, "a"), ModelTarget(ONE, "a", weight=2)))


@pytest.mark.parametrize(
    ("model", "found"),
    [("gpt-4o", "gpt-4o"), ("gpt-4o-mini", "gpt-4o*"), ("gpt-3.5", "gpt*"), ("claude", None), ("gpt*", "gpt*")],
)
def test_a_group_is_found_by_its_name_or_the_longest_beginning(model: str, found: str | None) -> None:
    groups = {name: Failover((ModelTarget(ONE, name),)) for name in ("gpt*", "gpt-4o*", "gpt-4o")}
    assert group_of(model, groups) == (groups[found] if found else None)


@pytest.mark.parametrize("of", ["name", "target"])
def test_a_loop_of_aliases_and_targets_is_a_mistake(of: str) -> None:
    group = Failover((ModelTarget(ONE, "fast" if of == "target" else ""),))
    with pytest.raises(InputError, match="'fast' is an alias") as raised:
        Routing(aliases={"fast": "slow"}, failover={"fast" if of == "name" else "slow": group})
    assert str(raised.value.field).startswith("failover.")


def test_a_target_whose_model_is_another_group_does_not_lead_there() -> None:
    routing = Routing(failover={"a": Failover((ModelTarget(ONE, "b"),)), "b": Failover((ModelTarget(TWO, "a"),))})
    assert (routing.of_model("a").reference, routing.of_model("a").model) == (ONE, "b")


def test_targets_are_among_the_catalysts_of_the_routing() -> None:
    routing = Routing(
        {"gpt": TWO}, failover={"gpt-4o": Failover((ModelTarget(ONE), ModelTarget(TWO), ModelTarget(THREE, "x")))}
    )
    assert routing.references == (TWO, ONE, THREE)
    assert routing.has(ONE, "gpt-4o")
    assert not routing.has(THREE, "gpt-4o")
    assert routing.has(TWO, "gpt-3")
    assert not routing.has(ONE, "whisper-1")
