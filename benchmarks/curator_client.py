"""bespokelabs-curator under one load, run by the Python of its own environment: `curator_client.py JOB`.

Reads and writes what `benchmarks.teacher_clients` does, and imports nothing of the project. The back end is
the one that curator's documentation names for an OpenAI-compatible address. `settings` are `backend_params`;
curator keeps its cache below the job's folder.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def prepare(root: Path) -> None:
    """Set what has to be set before curator is imported: no telemetry, no viewer, a cache of its own, the
    tokeniser and the price list that litellm's wheel holds in place of downloads."""
    import importlib.util

    found = importlib.util.find_spec("litellm")
    assert found is not None and found.origin is not None
    tokenisers = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ |= {
        "HOME": str(root),
        "HF_HOME": str(root / "hf"),
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TIKTOKEN_CACHE_DIR": str(tokenisers),
    }


def run(job: dict[str, Any], root: Path) -> dict[str, Any]:
    """The rows that curator's data set holds."""
    from bespokelabs import curator

    class Rows(curator.LLM):  # type: ignore[misc, unused-ignore]
        def prompt(self, input: dict[str, str]) -> str:
            return input["words"]

        def parse(self, input: dict[str, str], response: str) -> dict[str, str]:
            return {"words": input["words"], "text": response}

    started, cpu = time.perf_counter(), time.process_time()
    # Without require_all_responses=False one row that failed for good costs all others too.
    given = {"base_url": job["url"], "api_key": "key", "require_all_responses": False, **job["settings"]}
    model = Rows("teacher", backend="openai", backend_params=given, system_prompt=job["system"])
    made = model([{"words": words} for words in job["rows"]], working_dir=str(root / "curator"))
    rows = {each["words"]: each["text"] for each in made.dataset}
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "rows": rows}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    prepare(path.parent)
    done = run(json.loads(path.read_bytes()), path.parent)
    path.with_suffix(".done").write_text(json.dumps(done))
