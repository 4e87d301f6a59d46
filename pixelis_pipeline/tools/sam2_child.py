"""Runs inside `.tools/sam2`, an environment with the `sam2` package; never imported by the pipeline.

`python sam2_child.py CONFIG WEIGHTS DEVICE` answers requests on stdin until it closes. A message, either
way, is a JSON object in a line of its own and then as many raw bytes as its "bytes" says. The first line
out is {"ready": true} or an error. A request names width, height, box or null, points, and carries the
RGB bytes; an answer names the score and carries the mask's bits, row by row (`numpy.packbits`).
"""

import json
import os
import sys

import numpy as np


def predictor(config, weights, device):
    from safetensors.torch import load_file
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model = build_sam2(config, None, device=device)  # given a file, it would unpickle it
    model.load_state_dict(load_file(weights, device=device))
    return SAM2ImagePredictor(model)


def answer(model, request, payload):
    pixels = np.frombuffer(payload, np.uint8).reshape(request["height"], request["width"], 3)
    points = request["points"]
    model.set_image(pixels)
    masks, scores, _ = model.predict(
        point_coords=np.array(points, np.float32) if points else None,
        point_labels=np.ones(len(points), np.int32) if points else None,
        box=None if request["box"] is None else np.array(request["box"], np.float32),
        multimask_output=request["box"] is None and len(points) == 1,
    )
    best = int(np.argmax(scores))
    return float(scores[best]), np.packbits(np.asarray(masks[best]) > 0).tobytes()


def main():
    # Whatever the libraries print goes to stderr: stdout belongs to the messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def say(message, payload=b""):
        out.write(json.dumps({**message, "bytes": len(payload)}).encode() + b"\n" + payload)
        out.flush()

    try:
        model = predictor(*sys.argv[1:4])
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"[:500]})
        return
    say({"ready": True})
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        payload = sys.stdin.buffer.read(request["bytes"])
        try:
            score, bits = answer(model, request, payload)
            say({"score": score}, bits)
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"[:500]})


if __name__ == "__main__":
    main()
