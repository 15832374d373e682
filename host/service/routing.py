"""Routing: which catalyst answers for a model. The longest prefix of its name decides, else the default. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from host.core.names import Reference
from host.errors import InputError, NotFound


@dataclass(frozen=True, slots=True)
class Routed:
    """`model` is the name for the catalyst, with an alias replaced."""

    reference: Reference
    model: str


@dataclass(frozen=True, slots=True)
class Routing:
    """`prefix_map`: the beginning of a model's name -> the catalyst that has it; `aliases`: another name -> the model;
    `default`: the catalyst for all other models, and for requests without a model. Raises InputError for an alias of an
    alias."""

    prefix_map: Mapping[str, Reference] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    default: Reference | None = None

    def __post_init__(self) -> None:
        for alias in self.aliases:
            if self.aliases[alias] in self.aliases:
                raise InputError(
                    f"the alias {alias!r} is for {self.aliases[alias]!r}, which is an alias itself",
                    field=f"aliases.{alias}",
                    hint="name the model",
                )

    def model(self, name: str) -> str:
        """The model's own name, where `name` is an alias; else `name`."""
        return self.aliases.get(name, name)

    def of_model(self, name: str) -> Routed:
        """Raises NotFound where no catalyst has the model."""
        model = self.model(name)
        prefix = max((one for one in self.prefix_map if model.startswith(one)), key=len, default=None)
        reference = self.default if prefix is None else self.prefix_map[prefix]
        if reference is None:
            known = ", ".join(f"{one}…" for one in sorted(self.prefix_map)) or "none"
            raise NotFound(
                f"no catalyst has the model {name[:200]!r}",
                field="model",
                hint=f"prefixes that one has: {known}",
            )
        return Routed(reference, model)

    def of_rest(self) -> Reference:
        """The catalyst for a request without a model. Raises NotFound."""
        if self.default is None:
            raise NotFound(
                "no catalyst is the default, and the request names no model",
                hint="the operator names one: host serve --default c:local.openai",
            )
        return self.default

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every catalyst of this routing once, the default first."""
        named = ([self.default] if self.default else []) + list(self.prefix_map.values())
        return tuple(dict.fromkeys(named))

    def with_sole(self, catalysts: Collection[Reference]) -> Routing:
        """With the only one of `catalysts` as the default, if there is only one and no catalyst was named."""
        if self.references or len(catalysts) != 1:
            return self
        return replace(self, default=next(iter(catalysts)))
