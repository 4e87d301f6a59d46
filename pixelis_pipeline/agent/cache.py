"""Keys and values of conversations that grow a token at a time, in memory with room ahead.

Stock DynamicLayer copies all that it holds at every token, which at nano's size takes as long as the model.
"""

from typing import Any

import torch  # noqa: TID253
from transformers import DynamicLayer  # noqa: TID253

ROOM = 64  # tokens of room that new memory has


class Roomy(DynamicLayer):
    """Reads like its base, of which `keys` and `values` are then the filled parts of larger tensors."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._whole: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in keys and values [batch, heads, tokens, width]; gives all that are held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if not self._whole or stop > self._whole[0].shape[-2]:
            batch, heads, _, width = key_states.shape
            room = [key_states.new_empty(batch, heads, stop + ROOM, width) for _ in "kv"]
            if start and self.keys is not None and self.values is not None:
                room[0][:, :, :start], room[1][:, :, :start] = self.keys, self.values
            self._whole = tuple(room)
        for whole, new in zip(self._whole, (key_states, value_states), strict=True):
            whole[:, :, start:stop] = new
        self.keys, self.values = (whole[:, :, :stop] for whole in self._whole)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._whole = ()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._whole = ()
