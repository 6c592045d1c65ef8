"""The shares of an ordinary table whose rows are of several tiers: each is a dataset of its own, as a stage is."""

from __future__ import annotations

from collections.abc import Iterator

from lifecycle.catalog.models import Records, StagedRecords
from lifecycle.catalog.tiers import TierShare
from lifecycle.policy.models import Category


class TieredRecords(Records):
    """The rows of one tier in an ordinary table of several. In no file."""

    id: str
    share: TierShare

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, *self.share.names)

    @property
    def binding(self) -> str:
        return self.share.of

    @property
    def share_of(self) -> TierShare:
        return self.share


class TieredStage(StagedRecords):
    """One stage of the rows of one tier. In no file."""

    share: TierShare

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, *self.share.names)

    @property
    def share_of(self) -> TierShare:
        return self.share


def shares_of(dataset: Records, part: Records) -> Iterator[Records]:
    """A dataset or a part of it, tier by tier, where rules differ by tier and the file says what tells it: in a policy
    they differ for prompts and outputs only. Rows of a tier that nobody declared come last."""
    if dataset.tiers is None or part.category is not Category.PROMPTS_AND_OUTPUTS:
        yield part
        return
    own = {name: getattr(part, name) for name in Records.model_fields} | {"stages": (), "tiers": None}
    for tier in (*dataset.tiers.tiers, None):
        by = dataset.tiers.by or dataset.subject
        share = TierShare(of=dataset.id, names=part.names, tiers=dataset.tiers, by=by, tier=tier)
        named = own | {"id": f"{part.id}.{share.name}"}
        if isinstance(part, StagedRecords):
            yield TieredStage(**named, part=part.part, share=share)
        else:
            yield TieredRecords(**named, share=share)
