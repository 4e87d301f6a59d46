"""What a rollout's reward is worth within its group (Shao et al. 2024, DeepSeekMath, eq. 3)."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FLOOR = 1e-4  # of a group's deviation: below it all its rewards are one


def advantages(rewards: Array, size: int) -> tuple[Array, Array]:
    """float64 [rollouts], the rewards of groups of `size` neighbours, as deviations from their group's mean
    in units of its standard deviation; and bool [groups]: whether a group's rewards differ at all. In one
    whose rewards do not, there is nothing to learn and every advantage is 0."""
    groups = rewards.reshape(-1, size)
    spread = groups.std(1)
    differs = spread > FLOOR
    scaled = (groups - groups.mean(1, keepdims=True)) / np.where(differs, spread, np.inf)[:, None]
    return scaled.reshape(-1), differs
