"""The rank of a change to one large matrix: our sketch beside full SVDs, in one run.

The spectrum falls as k^-.7: the nano policy's fine-tuning leaves k^-.5 to k^-.9 in its language layers, ranks
of 27 to 58 of 128 at 90 %. Rates are of processor time, which other work on the machine moves least; every
method has the threads that torch and BLAS are given.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.measurement import Measurement, compared, measured
from pixelis_pipeline.settings import RankSettings
from training.sft.spectrum import rank_of, spectrum

ROWS, COLUMNS = 3584, 18944  # an MLP projection of Qwen2.5-VL-7B
DECAY, SEED = 0.7, 3584


def change(rows: int, columns: int) -> Any:
    """A float32 matrix [rows, columns], rows <= columns, whose singular values fall about as k^-DECAY."""
    import torch

    torch.manual_seed(SEED)
    left = torch.linalg.qr(torch.randn(rows, rows)).Q * torch.arange(1.0, rows + 1) ** -DECAY
    return left @ torch.randn(rows, columns).div_(columns**0.5)


def by_torch(matrix: Any) -> Any:
    """All singular values by LAPACK's gesdd."""
    import torch

    return torch.linalg.svdvals(matrix)


def by_gram(matrix: Any) -> Any:
    """All singular values, from the eigenvalues of the smaller Gram matrix; its products are float32."""
    import torch

    return torch.linalg.eigvalsh((matrix @ matrix.T).double()).flip(0).clamp(min=0).sqrt()


FULL: dict[str, Callable[[Any], Any]] = {"torch.linalg.svdvals": by_torch, "eigvalsh of the Gram": by_gram}


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of this process, and what came of it."""
    start = time.process_time()
    found = do()
    return time.process_time() - start, found


def ranks(rows: int = ROWS, columns: int = COLUMNS) -> Iterator[Measurement]:
    """The rank at 90 % and the verdict that it is over the most that settings allow, beside full SVDs."""
    import torch

    given = RankSettings()
    after = change(rows, columns)
    before = torch.zeros_like(after)
    seconds, found = timed(lambda: spectrum(before, after, given.energy))
    within, bounded = timed(lambda: spectrum(before, after, given.energy, given.most))
    rank, least = rank_of(found, given.energy), rank_of(bounded, given.energy)
    told = f"{rows} x {columns}"
    yield measured(f"{told}: rank at {given.energy:.0%}", float(rank or -1), "")
    yield measured(f"{told}: processor time", seconds, "s")
    for peer, do in FULL.items():
        theirs, values = timed(partial(do, after))
        squares = values.double().square()
        true = int((squares.cumsum(0) < given.energy * squares.sum()).sum()) + 1
        agree = f"same rank {rank}" if rank == true else f"OTHER RANK: {rank}, not {true}"
        yield compared(f"{told}, {agree}", 60 / seconds, "a minute", peer, 60 / theirs, at_least=1.0)
        same = least == true or (least is None and true > given.most)
        agree = f"most {given.most}, {'same' if same else 'OTHER'} verdict"
        yield compared(f"{told}, {agree}", 60 / within, "a minute", peer, 60 / theirs)


def suite() -> list[Measurement]:
    """All of them."""
    return list(ranks())
