"""A process that only makes small pictures keeps the memory they take."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media.made import encoded, picture

FAULTS = """
import resource, sys
from pathlib import Path
from PIL import Image
from pixelis_pipeline.media import image
from pixelis_pipeline.settings import MediaLimits

data = Path(sys.argv[1]).read_bytes()

def faults():
    for _ in range(10):
        made = image.reduced(data, "JPEG", "x", MediaLimits(), 256)
        Image.fromarray(made).convert("L")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(-faults() + faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give memory back otherwise")
def test_a_small_picture_is_not_faulted_in_anew(put: Callable[[str, bytes], Path]) -> None:
    """Some seventy faults each where its memory is given back after it."""
    path = put("a.jpg", encoded(picture(2000, 1500), "JPEG", quality=90))
    told = subprocess.run([sys.executable, "-c", FAULTS, path], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 10 * 20
