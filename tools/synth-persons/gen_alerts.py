"""Alert texts for rendered pictures, each with the pictures that truly fit it.

Texts are drawn as a witness would give them, from persons who need not be among the pictures: mostly two to four things
(who, above, below, carried, on the head), some only one. Which pictures fit is told by their `attributes`.

    python gen_alerts.py --captions DATA/captions.json --count 240 --seed 7 --out alerts.json
"""
import argparse
import json

import numpy as np

from gen_scenes import alert_text, matches, worn
from person import sample_attributes


def condition(rng, at):
    """What a witness remembers of a person with these attributes; None where that is nothing."""
    cond = {}
    if rng.random() < 0.8:
        cond["person"] = at["person"]
    if rng.random() < 0.85:
        cond["top"] = worn(at)[0]
    if at["upper"]["type"] not in ("dress", "suit") and rng.random() < 0.6:
        cond["lower"] = (at["lower"]["colour"], at["lower"]["type"])
    if at["carried"]["type"] != "none" and rng.random() < 0.6:
        cond["carried"] = (at["carried"]["colour"], at["carried"]["type"])
    if at["headwear"]["type"] not in ("none", "hood") and rng.random() < 0.6:
        cond["headwear"] = (at["headwear"]["colour"], at["headwear"]["type"])
    return cond if set(cond) - {"person"} else None


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--captions", required=True, help="captions.json of rendered pictures, with attributes")
    ap.add_argument("--count", type=int, default=240)
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    with open(args.captions) as file:
        pictures = json.load(file)
    rng = np.random.default_rng([args.seed, 79])
    alerts, seen = [], set()
    while len(alerts) < args.count:
        at = sample_attributes(rng)
        cond = condition(rng, at) if at["person"] != "child" else None
        text = cond and alert_text(rng, cond)
        if not text or text in seen:
            continue
        seen.add(text)
        fits = [p["file_path"] for p in pictures if matches(p["attributes"], cond)]
        near = [p["file_path"] for p in pictures if not matches(p["attributes"], cond) and matches(p["attributes"], cond, True)]
        alerts.append({"id": f"text-{len(alerts) + 1}", "text": text, "conditions": cond, "matches": fits, "near": near})
    with open(args.out, "w") as file:
        json.dump(alerts, file, indent=1)
    print(f"{len(alerts)} texts over {len(pictures)} pictures; {sum(not a['matches'] for a in alerts)} fit nobody")


if __name__ == "__main__":
    main()
