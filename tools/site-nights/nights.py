"""A site's nights: persons pass, the box tells its staff of some, they judge, at night the box learns.

    python nights.py --site SITE --reference REFERENCE --pack PACK --bundle BUNDLE --out OUT [--nights 30] [--wrong 0.2]

SITE is a folder that tools/synth-persons/gen_persons.py wrote, its pictures taken out of the tar files; each night the
next --persons of its identities pass, and the last --held-out never do: by these the bundle is judged each morning. By day
somebody describes --alerts of those who pass, with one of the captions of one of their pictures; the box ranks the tracks of
that night and tells the best two of each description. Staff confirm whoever the description was given for and reject the
other, and say of --corrected of these what they look like, but --wrong of their verdicts are turned round. Then `spotter-trainer adapt` learns for at most --minutes, and what
passes its gate serves from the next day on. OUT/nights.csv gets a row a night. A night that is there already is not made again.
"""
import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor


def run(*command, allowed=(0,)):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode not in allowed:
        raise SystemExit("%s\n%s" % (" ".join(map(str, command)), done.stderr[-2000:]))
    return done


def persons(folder):
    """By identity: its pictures with their captions."""
    people = {}
    with open(os.path.join(folder, "captions.json")) as file:
        for picture in json.load(file):
            people.setdefault(picture["id"], []).append(picture)
    return people


def scores(args, bundle, texts, files):
    """By text, the cosine with each picture. Texts and pictures in parts, so that no command line grows too long."""
    command = [args.spotterd, "match", "--bundle", bundle, "--json"]
    for text in texts:
        command += ["--text", text]
    parts = [files[at:at + 120] for at in range(0, len(files), 120)]
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda part: json.loads(run(*command, *part).stdout), parts)
    found = {}
    for answer in answers:
        found.update((picture["image"], picture["scores"]) for picture in answer["results"])
    return found


def day(args, night, people, bundle, rng):
    """What staff said of the sightings of one day: (text, person, fits, said, what they look like instead)."""
    ids = sorted(people)[night * args.persons:(night + 1) * args.persons]
    asked = rng.sample(ids, args.alerts)
    texts = [rng.choice(rng.choice(people[person])["captions"]) for person in asked]
    path = lambda picture: os.path.join(args.site, picture["file_path"])
    found = scores(args, bundle, texts, [path(picture) for person in ids for picture in people[person]])
    said = []
    for number, (person, text) in enumerate(zip(asked, texts)):
        mean = lambda other: sum(found[path(p)][number] for p in people[other]) / len(people[other])
        for told in sorted(ids, key=mean, reverse=True)[:2]:
            fits = told == person
            confirmed = fits != (rng.random() < args.wrong)
            # Who rejects somebody sometimes says what they look like instead.
            better = rng.choice(rng.choice(people[told])["captions"]) if not fits and rng.random() < args.corrected else None
            said.append((text, told, fits, confirmed, None if confirmed else better))
    return said


def keep(args, night, said, people, bundle):
    """Writes verdicts as the daemon does."""
    for number, (text, person, _, confirmed, better) in enumerate(said):
        name = "N%03d-%04d" % (night, number)
        folder = os.path.join(args.out, "feedback", name)
        os.makedirs(folder, exist_ok=True)
        pictures = []
        for at, picture in enumerate(people[person]):
            source = os.path.join(args.site, picture["file_path"])
            shutil.copyfile(source, os.path.join(folder, "%d.jpg" % at))
            pictures.append({"file": "%d.jpg" % at, "size": [96, 230], "quality": 0.8})
        verdict = {
            "schema": 1, "sighting": name, "verdict": "confirmed" if confirmed else "rejected", "by": "staff-%d" % (number % 3),
            "at": "2026-11-%02dT06:00:00Z" % (night % 28 + 1), "alert": "alert-%d-%d" % (night, number), "text": text,
            "camera": "gate", "track": str(person), "seen": "2026-11-%02dT05:00:00Z" % (night % 28 + 1),
            **({"corrected": better} if better else {}),
            "bundle": json.load(open(os.path.join(args.out, "generation.json")))["generation"], "pictures": pictures,
        }
        with open(os.path.join(folder, "verdict.json"), "w") as file:
            json.dump(verdict, file)
    mark = os.path.join(args.out, "feedback", "feedback.json")
    if not os.path.exists(mark):
        with open(mark, "w") as file:
            file.write('{"schema": 1}\n')


def judge(args, bundle):
    """R@1 on the site's held-out persons and on the reference set."""
    first = args.nights * args.persons + 1
    site = run(args.trainer, "evaluate", "--bundle", bundle, "--data", args.site, "--split", "all", "--ids", "%d-%d" % (first, first + args.held_out - 1), "--json")
    reference = run(args.trainer, "evaluate", "--bundle", bundle, "--data", args.reference, "--split", "val", "--json")
    return [json.loads(one.stdout)["metrics"] for one in (site, reference)]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("site", "reference", "pack", "bundle", "out"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--spotterd", default="target/release/spotterd")
    ap.add_argument("--trainer", default="target/release/spotter-trainer")
    ap.add_argument("--nights", type=int, default=30)
    ap.add_argument("--persons", type=int, default=60)
    ap.add_argument("--alerts", type=int, default=40)
    ap.add_argument("--held-out", type=int, default=300)
    ap.add_argument("--wrong", type=float, default=0.2)
    ap.add_argument("--corrected", type=float, default=0.3, help="share of the rejected whom staff describe")
    ap.add_argument("--minutes", type=float, default=4)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--settings")
    ap.add_argument("--learn-every", type=int, default=1, help="learn only every so many nights")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    people = persons(args.site)
    table = os.path.join(args.out, "nights.csv")
    head = ["night", "verdicts", "right", "passed", "site R@1", "site mAP", "reference R@1", "reference mAP", "bundle"]
    rows = list(csv.reader(open(table)))[1:] if os.path.exists(table) else []
    bundle = rows[-1][-1] if rows else args.bundle
    if not rows:
        site, reference = judge(args, bundle)
        rows = [[0, 0, 0, "", site["R@1"], site["mAP"], reference["R@1"], reference["mAP"], bundle]]
    for night in range(len(rows) - 1, args.nights):
        rng = random.Random(hashlib.sha256(b"%d %d" % (args.seed, night)).digest())
        manifest = json.load(open(os.path.join(bundle, "manifest.json")))
        generation = hashlib.sha256(open(os.path.join(bundle, "manifest.json"), "rb").read()).hexdigest()[:32]
        json.dump({"generation": generation, "name": manifest["name"]}, open(os.path.join(args.out, "generation.json"), "w"))
        said = day(args, night, people, bundle, rng)
        keep(args, night, said, people, bundle)
        passed = ""
        if (night + 1) % args.learn_every == 0:
            out = os.path.join(args.out, "staging")
            delta = os.path.join(args.out, "running") if os.path.exists(os.path.join(args.out, "running")) else None
            command = [args.trainer, "adapt", "--pack", args.pack, "--feedback", os.path.join(args.out, "feedback"), "--reference", args.reference,
                       "--precisions", "f32", "--minutes", args.minutes, "--name", "night %d" % (night + 1), "--out", out, "--json"]
            command += ["--running", delta] if delta else []
            command += ["--settings", args.settings] if args.settings else []
            report = json.loads(run(*command, allowed=(0, 1)).stdout)
            passed = report["passed"]
            with open(os.path.join(args.out, "night-%02d.json" % (night + 1)), "w") as file:
                json.dump(report, file, indent=1)
            if passed:
                shutil.rmtree(os.path.join(args.out, "running"), ignore_errors=True)
                shutil.move(os.path.join(out, "delta"), os.path.join(args.out, "running"))
                store = os.path.join(args.out, "store")
                run(args.spotterd, "bundle", "apply", os.path.join(args.out, "running"), "--pack", args.pack, "--store", store, "--promote")
                bundle = os.path.realpath(os.path.join(store, "current"))
        site, reference = judge(args, bundle) if passed in (True, "") and (passed or night == args.nights - 1) else (None, None)
        last = rows[-1]
        figures = [site["R@1"], site["mAP"], reference["R@1"], reference["mAP"]] if site else last[4:8]
        rows.append([night + 1, len(said), sum(one[2] == one[3] for one in said), passed, *figures, bundle])
        with open(table, "w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
        print("night %d: %s" % (night + 1, rows[-1]), flush=True)


if __name__ == "__main__":
    main()
