"""InferenceModelRewrite: the model that a client asked for → the model that serves, by weight (a canary, an alias)."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem
from inferencesched.resources.metadata import Metadata, PoolRef, non_empty, number

__all__ = ["InferenceModelRewrite", "RewriteRule", "RewriteTarget", "read_rewrite"]


@attrs.frozen
class RewriteTarget:
    """A model to serve instead, with its share; no weights at all are equal shares."""

    model: str
    weight: int | None = None


@attrs.frozen
class RewriteRule:
    """Targets for some models; for all of them, a missing one too, when `models` is None."""

    models: tuple[str, ...] | None
    targets: tuple[RewriteTarget, ...]


@attrs.frozen
class InferenceModelRewrite:
    """Rules of one pool.

    Attributes:
        name: unique in its namespace.
        pool: the pool that it holds for.
        rules: an exact match beats a rule for all models, then the older rewrite wins, then the earlier rule.
        created: when, as the cluster wrote it; empty if it did not.
        namespace: of the rewrite and of its pool.
    """

    name: str
    pool: str
    rules: tuple[RewriteRule, ...]
    created: str = ""
    namespace: str = "default"


@attrs.frozen
class _Model(Part):
    value: str = attrs.field(validator=non_empty)
    type: Literal["Exact"] = "Exact"


@attrs.frozen
class _Match(Part):
    model: _Model | None = None


@attrs.frozen
class _Target(Part):
    model_rewrite: str = attrs.field(validator=non_empty)
    weight: int | None = attrs.field(default=None, validator=attrs.validators.optional(number(1, 1_000_000)))


@attrs.frozen
class _Rule(Part):
    targets: tuple[_Target, ...] = attrs.field(validator=attrs.validators.min_len(1))
    matches: tuple[_Match, ...] = ()


@attrs.frozen
class _Spec(Part):
    pool_ref: PoolRef
    rules: tuple[_Rule, ...]


@attrs.frozen
class _Rewrite(Part):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _Spec
    status: Any = None


def read_rewrite(document: Document, problems: list[Problem], warnings: list[Problem]) -> InferenceModelRewrite | None:
    """Return the rewrite of a document, None after appending what is wrong to `problems`."""
    read = decode(_Rewrite, document.content, "", problems)
    if read is None:
        return None
    for rule in read.spec.rules:
        weighted = [target.weight is not None for target in rule.targets]
        if any(weighted) and not all(weighted):
            message = "some targets have a weight and some have none; those without are never chosen"
            warnings.append(Problem(f"{rule.at}.targets", message))
        if rule.matches and not any(match.model for match in rule.matches):
            warnings.append(Problem(f"{rule.at}.matches", "no match names a model, so the rule never applies"))
    rules = tuple(map(_rule, read.spec.rules))
    name, namespace = read.metadata.name, read.metadata.namespace
    return InferenceModelRewrite(name, read.spec.pool_ref.name, rules, read.metadata.creation_timestamp, namespace)


def _rule(rule: _Rule) -> RewriteRule:
    models = tuple(match.model.value for match in rule.matches if match.model is not None)
    targets = tuple(RewriteTarget(target.model_rewrite, target.weight) for target in rule.targets)
    return RewriteRule(models if rule.matches else None, targets)
