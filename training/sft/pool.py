"""Traces that are ready to be learned, with their pictures, and how rows of them reach the backbone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pixelis_pipeline.agent import render
from pixelis_pipeline.agent.batch import collate
from pixelis_pipeline.agent.pixels import Image
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.records import Trajectory
from pixelis_pipeline.tools.opening import Open
from training.pictures import pictures
from training.sft.examples import Example, example

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pixelis_pipeline.agent.large import LargePolicy

Rows = Callable[[Sequence[Sequence[int]], Sequence[Image]], dict[str, Any]]


def nano_rows(ids: Sequence[Sequence[int]], images: Sequence[Image]) -> dict[str, Any]:
    """Rows of token ids and their pictures as the arguments of a nano policy's backbone.

    ImageTokenMismatch where the rows' tokens do not fit the pictures.
    """
    batch = collate(ids, images, "right")
    return {
        "input_ids": batch.ids,
        "attention_mask": batch.attention,
        "position_ids": batch.positions,
        "pixel_values": batch.pixels,
        "image_grid_thw": batch.grid,
    }


def rows_of(policy: "Policy | LargePolicy") -> Rows:
    """As `nano_rows`, of any policy."""
    if isinstance(policy, Policy):
        return nano_rows
    return lambda ids, images: policy.collate(ids, images, "right").arguments()


@dataclass(frozen=True, slots=True)
class Pool:
    """Trajectories that hold something to learn, in a fixed order, each with the pictures it shows.
    `rows` makes the backbone's arguments of token ids and pictures, padded on the right."""

    trajectories: Sequence[Trajectory]
    examples: Sequence[Example]
    images: Sequence[Sequence[Image]]
    rows: Rows = nano_rows

    def parts(self, size: int) -> Iterator["Pool"]:
        """All of it in order, `size` at a time."""
        for start in range(0, len(self.examples), size):
            part = slice(start, start + size)
            yield Pool(self.trajectories[part], self.examples[part], self.images[part], self.rows)


def pool(
    trajectories: Sequence[Trajectory],
    open_media: Open,
    action_weight: float,
    contract: render.Contract | None = None,
    tokenizer: "Tokenizer | None" = None,
    rows: Rows = nano_rows,
) -> Pool:
    """The trajectories that hold something to learn, under a policy's contract and tokenizer (nano's by
    default). ValueError where one was not replayed, MediaError for media that cannot be decoded."""
    made = [(each, example(each, action_weight, contract, tokenizer)) for each in trajectories]
    kept = [(each, ready) for each, ready in made if ready is not None]
    images = [pictures(contract or render.nano(), each, open_media) for each, _ in kept]
    return Pool([each for each, _ in kept], [ready for _, ready in kept], images, rows)


def pool_for(
    policy: "Policy | LargePolicy",
    trajectories: Sequence[Trajectory],
    open_media: Open,
    action_weight: float,
) -> Pool:
    """`pool` under the contract, tokenizer and rows of a policy."""
    return pool(
        trajectories, open_media, action_weight, policy.contract, policy.vocabulary.marks, rows_of(policy)
    )
