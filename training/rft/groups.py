"""What a rollout's reward is worth within its group (Shao et al. 2024, DeepSeekMath, eq. 3), in units of the
whole batch's deviation (Liu et al. 2025, arXiv 2508.08221, "Lite PPO"; TRL's `scale_rewards="batch"`): by its
own, a group in which one rollout of eight fails by chance would count as much as one split in half.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FLOOR = 1e-4  # of a group's deviation: below it all its rewards are one


def advantages(rewards: Array, size: int, decisive: Array | None = None) -> tuple[Array, Array]:
    """float64 [rollouts], the rewards of groups of `size` neighbours, as deviations from their group's mean
    in units of the batch's standard deviation; and bool [groups]: whether a group's rewards differ at all. In
    one whose rewards do not, there is nothing to learn and every advantage is 0.

    Where `decisive` is given [rollouts], a group counts as one whose rewards differ by that part of them:
    what a rollout earned by its answer and paid. Curiosity and coherence always differ, and alone would be
    learned from in every group whose answers are all right or all wrong.
    """
    groups = rewards.reshape(-1, size)
    differs = (rewards if decisive is None else decisive).reshape(-1, size).std(1) > FLOOR
    spread = rewards.std() if differs.any() else np.inf
    scaled = (groups - groups.mean(1, keepdims=True)) * differs[:, None] / spread
    return scaled.reshape(-1), differs
