"""Alert texts for rendered pictures and scenes, each with the pictures and persons that truly fit it.

Texts are drawn as a witness would give them, from persons who need not be among the pictures: mostly two to four things
(who, above, below, carried, on the head), some only one. Who fits is told by their `attributes`. A picture is named by its
file_path, a person of a scene by the scene's name and the person's number: street-a/3.

    python gen_alerts.py --captions DATA/captions.json --count 240 --seed 7 --out alerts.json
    python gen_alerts.py --captions scenes/*.truth.json --count 300 --seed 11 --out scene-alerts.json
    python gen_alerts.py --upper pink orange --count 240 --seed 13 --out nobody.json   # fit nobody where nobody wears these
"""
import argparse
import json
import os

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


def persons(path):
    """Names and attributes of everybody in a captions.json or a scene's truth.json."""
    with open(path) as file:
        listed = json.load(file)
    if isinstance(listed, list):
        return [(picture["file_path"], picture["attributes"]) for picture in listed]
    scene = os.path.splitext(listed["video"])[0]
    return [(f"{scene}/{person['id']}", person["attributes"]) for person in listed["identities"]]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--captions", default=[], nargs="+", help="captions.json of rendered pictures, or truth.json of scenes")
    ap.add_argument("--upper", nargs="+", metavar="COLOUR", help="only texts with something above of these colours: for places where nobody wears any")
    ap.add_argument("--count", type=int, default=240)
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    everybody = [one for path in args.captions for one in persons(path)]
    rng = np.random.default_rng([args.seed, 79])
    alerts, seen = [], set()
    while len(alerts) < args.count:
        at = sample_attributes(rng)
        cond = condition(rng, at) if at["person"] != "child" else None
        if cond and args.upper and cond.get("top", ("",))[0] not in args.upper:
            continue
        text = cond and alert_text(rng, cond)
        if not text or text in seen:
            continue
        seen.add(text)
        fits = [name for name, worn_by in everybody if matches(worn_by, cond)]
        near = [name for name, worn_by in everybody if name not in fits and matches(worn_by, cond, True)]
        alerts.append({"id": f"text-{len(alerts) + 1}", "text": text, "conditions": cond, "matches": fits, "near": near})
    with open(args.out, "w") as file:
        json.dump(alerts, file, indent=1)
    print(f"{len(alerts)} texts over {len(everybody)} pictures or persons; {sum(not a['matches'] for a in alerts)} fit nobody")


if __name__ == "__main__":
    main()
