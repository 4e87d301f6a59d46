"""The arithmetic of docs/SCALE.md, on rates that are known."""

from benchmarks.scale import Rates, page


def test_linear_steps_divide_and_quadratic_ones_grow() -> None:
    known = Rates(image=0.01, second=0.02, hashes=1.0, pair=0.1, judged=0.05, bytes=5600.0)
    told = page(known)
    # 11 million x 10 ms are 110,000 core seconds: 15.3 hours on 2 cores, 28.6 minutes on 64.
    assert "| fingerprints of all images | 15.3 h | 28.6 min |" in told
    # (11e6)^2 hashes / 1e12 are 121 core seconds.
    assert "| pHash join, distance 8 | 60.5 s | 1.9 s |" in told
    # Twice as slow a join is twice as long, and a day's worth of pictures the root of a half.
    slower = page(Rates(image=0.01, second=0.02, hashes=1.0, pair=0.2, judged=0.05, bytes=5600.0))
    assert told != slower
    assert "about 39.7 million images" in told and "about 28.1 million images" in slower
