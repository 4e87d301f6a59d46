"""What a training that several processes carry out together does otherwise than one process.

A launcher (`training.launch`) says by the environment which process this is. Without one, everything here is
what is plainly done. Weights are copies of each other in all processes (DDP), or split over them (FSDP2), and
then are DTensors.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch  # noqa: TID253

R = TypeVar("R")


def rank() -> int:
    """Which of them this process is, from 0."""
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def one_device(arguments: Any) -> Any:
    """The Trainer's arguments for a process that trains where its weights lie, however many GPUs the machine
    has: by itself it would copy the model to all of them (DataParallel), and feed each a batch."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def wait() -> None:
    """Until all are here: what the first has written, all may read."""
    if processes() > 1:
        torch.distributed.barrier()


def total(value: float, device: torch.device) -> float:
    """The sum of what the processes give, the same number for all."""
    if processes() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(summed)
    return float(summed)


def to_be_sharded() -> bool:
    """Whether the launcher asks for weights that are split."""
    return processes() > 1 and os.environ.get("ACCELERATE_USE_FSDP") == "true"


def sharding(model: Any) -> Any:
    """How accelerate splits a model's weights (Zhao et al. 2023; FSDP2): decoder layer by decoder layer, and
    the rest as one, the tower with it, since not every process' rows need hold a picture. They keep the dtype
    that they are stored in; accelerate would have adapters gathered, and the loss given back, in bfloat16."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[name for name in model._no_split_modules if "Vision" not in name],
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,  # `policy.opened` loads the weights
        mixed_precision_policy=MixedPrecisionPolicy(),
    )


def sharded(model: Any) -> bool:
    """Whether the weights of a model are split over the processes."""
    if processes() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def as_forward(wrapper: Any, model: Any, work: Callable[[], R]) -> R:
    """`work()`, which uses parts of `model` and not its forward pass, as the forward pass of `wrapper`, which
    distributes the model (under FSDP2 the model itself). Outside of one DDP shares no gradients, and FSDP2
    gathers no weights."""
    if wrapper is model and not sharded(model):
        return work()
    from trl.models.utils import _ForwardRedirection

    return _ForwardRedirection()(wrapper, model, work)


def split_again(model: Any) -> None:
    """Give back the weights that a forward pass gathered and no backward pass followed on."""
    if not sharded(model):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as one piece. Where it is split, all processes have to ask for it."""
    gather = getattr(tensor, "full_tensor", None)
    return gather() if gather else tensor


def trained(model: Any) -> dict[str, torch.Tensor]:
    """The weights that learn, by name, each as one piece and on the CPU. All processes have to ask."""
    learns = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    return {name: whole(weight.detach()).cpu() for name, weight in learns}


def placed(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that every process has whole, split as `like` is, if it is."""
    if processes() == 1:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
