"""`pixelis gc`: versions that nothing in force needs."""

from assets import console
from assets.stage import Project
from pixelis_pipeline.ledger.gc import free as free_garbage
from pixelis_pipeline.ledger.gc import garbage


def show(project: Project, *, free: bool) -> int:
    """List what may go; free it only where asked to."""
    settings = project.settings  # they may name a predictor before any stage has read it
    pinned = {settings.synthesis.predictor, settings.curation.predictor, settings.sft.lora}
    found = free_garbage(project.ledger, pinned) if free else garbage(project.ledger, pinned)
    for folder in found.folders:
        console.say(f"{folder.relative_to(project.root)}")
    size = (
        f"{found.bytes / 1e6:.1f} MB in {len(found.folders)} versions and {len(found.objects)} cache objects"
    )
    if not found.folders and not found.objects:
        console.say("nothing to free")
    elif free:
        console.say(f"freed {size}")
    else:
        console.say(f"would free {size}; `pixelis gc --yes` does it")
    return 0
