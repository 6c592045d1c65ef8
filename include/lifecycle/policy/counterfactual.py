"""The policy as if something did not exist: for "what if nothing held it" and "what comes after". Pure."""

from __future__ import annotations

from collections.abc import Collection

from lifecycle.policy.models import Policy, Trigger

# What keeps a record whatever its period says.
KEEPERS = frozenset({Trigger.HOLD, Trigger.CASE})


def without(policy: Policy, triggers: Collection[Trigger]) -> Policy:
    """The policy with some triggers taken out of the order of precedence."""
    return policy.model_copy(update={"precedence": tuple(t for t in policy.precedence if t not in triggers)})


def after(policy: Policy, trigger: Trigger) -> Policy:
    """The policy once a trigger, and everything that outranks it, no longer applies."""
    return without(policy, policy.precedence[: policy.precedence.index(trigger) + 1])
