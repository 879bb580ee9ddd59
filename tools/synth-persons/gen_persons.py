"""Make captioned pedestrian crops.

    python gen_persons.py --assets ASSETS --seed 1 --identities 5000 --views 4 --out OUT [--test] [--jobs 2]
    python gen_persons.py ... --ids 3501 4500 --camera-height 6 8 --colour-cast 1.2 0.9 0.5 ...

ASSETS is the folder with mh-cc0.npz and textures/ (see README.md). OUT gets .tar shards of JPEG files and captions.json.
"""
import argparse
import io
import json
import multiprocessing as mp
import os
import tarfile

import cv2
import numpy as np

import colours as col
from body import Assets
from captions import describe
from person import Person
from raster import L_LOGO, L_STRAP, look_at, project
from scene import Backdrop, Light, Posed, World, draw, ground_shadow
from site_camera import Site

STATE = {}
CHUNK = 25


def init(folder, seed, site=None):
    """Load everything once, before the worker processes are forked."""
    cv2.setNumThreads(1)
    STATE["assets"] = Assets(folder)
    STATE["world"] = World(folder, seed)
    STATE["last"] = None
    STATE["site"] = site


def camera_effects(img, rng, site=None, site_rng=None):
    """Linear RGB to an 8-bit BGR picture as a cheap camera would give it."""
    if site:
        img = site.lens(img)
    img = img * rng.uniform(1.0, 1.4)
    wb = np.array([1 + rng.normal() * 0.05, 1, 1 + rng.normal() * 0.05])
    img = img * wb
    if rng.random() < 0.2:
        img = img * (1 - rng.uniform(0.02, 0.12)) + rng.uniform(0.01, 0.08)           # haze, lens flare
    if rng.random() < 0.25:                                                          # motion
        n = int(rng.integers(3, 8))
        k = np.zeros((n, n), np.float32)
        a = rng.normal() * 0.4
        cv2.line(k, (0, int(n / 2 - n / 2 * np.sin(a))), (n - 1, int(n / 2 + n / 2 * np.sin(a))), 1.0)
        img = cv2.filter2D(img, -1, k / k.sum())
    h, w = img.shape[:2]
    small = rng.uniform(0.38, 1.0) if rng.random() < 0.45 else 1.0                      # a person far away
    if site and site.low_resolution:
        small = site_rng.uniform(*site.low_resolution)
    if small < 1:
        img = cv2.resize(img, (int(w * small), int(h * small)), interpolation=cv2.INTER_AREA)
    img = np.clip(img, 0, 1) ** (1 / 2.2 * rng.uniform(0.92, 1.08))
    if rng.random() < 0.5:                                                            # contrast
        k = rng.uniform(-0.1, 0.5)
        img = img + k * img * (1 - img) * (2 * img - 1) * 2
    if rng.random() < 0.45:                                                            # crushed blacks, clipped whites
        b = rng.uniform(0.0, 0.09)
        img = np.clip((img - b) / (1 - b - rng.uniform(0, 0.08)), 0, 1)
    if rng.random() < 0.3:
        g = img.mean(-1, keepdims=True)
        img = g + (img - g) * rng.uniform(0.8, 1.15)
    s = rng.uniform(0.002, 0.02) + (site.noise or 0 if site else 0)
    img = img + rng.normal(size=img.shape) * s * (0.5 + 0.7 * (1 - img))
    if rng.random() < 0.3:
        b = cv2.GaussianBlur(img, (0, 0), 1.2)
        img = img + (img - b) * rng.uniform(0.2, 1.5)
    img = np.clip(img * 255 + 0.5, 0, 255).astype(np.uint8)
    if small < 1:
        img = cv2.resize(img, (w, h), interpolation=cv2.INTER_LINEAR if rng.random() < 0.6 else cv2.INTER_CUBIC)
    return img[:, :, ::-1]


def visible(person, label, owner, yaw, head):
    """Which described things can really be seen, from the label image (occluders already cut out)."""
    own = owner == 0
    lab = label[own]
    total = max(1, len(lab))
    n = {}
    for k, name in enumerate(person.names):
        n[name] = n.get(name, 0) + int((lab == k).sum())
    strap, logo = int((lab == L_STRAP).sum()), int((lab == L_LOGO).sum())
    n["upper"] = n.get("upper", 0) + logo + (0 if person.attr.get("outer") else strap)
    n["outer"] = n.get("outer", 0) + (strap if person.attr.get("outer") else 0)
    at = person.attr
    seen = set()
    for name, share in (("upper", 0.02), ("outer", 0.05), ("lower", 0.05), ("shoes", 0.006), ("hair", 0.006), ("headwear", 0.006), ("bag", 0.007)):
        if n.get(name, 0) > share * total:
            seen.add(name)
    if at["upper"]["type"] == "dress" and "upper" in seen:
        seen.add("lower")
    if at["hair"]["style"] in ("bald", "shaved") and at["headwear"]["type"] == "none" and head:
        seen.add("hair")
    if at["headwear"]["type"] == "hood":
        seen.discard("hair")
        if n.get("headwear", 0) > 0.006 * total:
            seen.add("headwear")
    if at["carried"]["type"] == "backpack" and strap > 0.006 * total:
        seen.add("bag")
    if logo > 0.004 * total:
        seen.add("logo")
    c = np.cos(yaw)
    seen.add("front" if c > 0.5 else "back" if c < -0.6 else "side")
    return seen


def occlude(img, label, owner, rng, light):
    """Something in front of the lower or side part."""
    h, w = img.shape[:2]
    H, W = owner.shape
    ss = H // h
    world = STATE["world"]
    tex = world.walls[rng.integers(len(world.walls))]
    if rng.random() < 0.6:
        y = int(h * rng.uniform(0.68, 0.92))
        x0, x1, y0, y1 = 0, w, y, h
        if rng.random() < 0.5:
            x0 = int(w * rng.uniform(0.2, 0.6)) if rng.random() < 0.5 else 0
            x1 = w if x0 else int(w * rng.uniform(0.4, 0.8))
    else:
        y0, y1 = int(h * rng.uniform(0, 0.4)), h
        x0, x1 = (0, int(w * rng.uniform(0.08, 0.28))) if rng.random() < 0.5 else (int(w * rng.uniform(0.72, 0.92)), w)
    th, tw = y1 - y0, x1 - x0
    if th < 4 or tw < 4:
        return
    ty, tx = rng.integers(0, tex.shape[0] - min(th, 500)), rng.integers(0, tex.shape[1] - min(tw, 500))
    t = tex[ty:ty + th, tx:tx + tw]
    t = cv2.resize(t, (tw, th)) * (light.sun * 0.4 + light.sky * 0.5 + light.bounce * 0.3)
    img[y0:y1, x0:x1] = t
    owner[y0 * ss:y1 * ss, x0 * ss:x1 * ss] = -1


def one_view(person, rng, yaw, with_stats=False, site_rng=None):
    world, site = STATE["world"], STATE["site"]
    light = Light(rng)
    P = Posed(person.posed(person.random_pose(rng)), person.mats, yaw, 0, 0)
    people = [P]
    if STATE["last"] is not None and rng.random() < 0.14:
        geo, mats = STATE["last"]
        people.append(Posed(geo, mats, rng.uniform(0, 6.28), rng.choice([-1, 1]) * rng.uniform(6.5, 11), -rng.uniform(-3, 25)))
    dist, height = rng.uniform(45, 150), rng.choice([rng.uniform(12, 20), rng.uniform(20, 48)], p=[0.4, 0.6])
    if site and site.camera_height:
        height = site.height(site_rng)
    eye = np.array([rng.normal() * 2, height, dist])
    target = np.array([rng.normal() * 1, rng.uniform(7, 10), 0])
    R = look_at(eye, target)
    roll = rng.normal() * 0.02
    c, s = np.cos(roll), np.sin(roll)
    R = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ R
    cam = dict(R=R, eye=eye, f=1.0, cx=0.0, cy=0.0)
    p = project(P.V, cam)
    x0, y0, x1, y1 = p[:, 0].min(), p[:, 1].min(), p[:, 0].max(), p[:, 1].max()
    h = y1 - y0
    jit = rng.uniform(-0.02, 0.07, 4) * h
    x0, x1, y0, y1 = x0 - jit[0], x1 + jit[1], y0 - jit[2], y1 + jit[3]
    q = rng.random()
    head = not 0.06 <= q < 0.085
    if q < 0.06:
        y1 -= h * rng.uniform(0.12, 0.4)
    elif q < 0.085:
        y0 += h * rng.uniform(0.05, 0.12)
    elif q < 0.12:
        k = rng.uniform(0.1, 0.3) * (x1 - x0)
        x0, x1 = (x0 + k, x1) if rng.random() < 0.5 else (x0, x1 - k)
    ratio = (y1 - y0) / (x1 - x0)
    want = np.clip(ratio, 2.05, 3.0) if ratio > 1.9 else ratio                # wide boxes (umbrella, suitcase) stay wide
    if ratio > want:
        mid, half = (x0 + x1) / 2, (y1 - y0) / want / 2
        x0, x1 = mid - half, mid + half
    elif ratio < want:
        mid, half = (x0 + x1) / 2, (x1 - x0) * want / 2
        m = (y0 + y1) / 2
        y0, y1 = m - half, m + half
    Hpx = int(rng.integers(216, 257))
    Wpx = int(round(Hpx * (x1 - x0) / (y1 - y0)))
    f = Hpx / (y1 - y0)
    cam = dict(R=R, eye=eye, f=f, cx=-x0 * f, cy=-y0 * f)
    bg = Backdrop(world, rng, light)
    img = bg.render(cam, Wpx, Hpx)
    if rng.random() < 0.5:
        img = cv2.GaussianBlur(img, (0, 0), rng.uniform(0.4, 2.2))
    for Q in people:
        img *= (1 - ground_shadow(Q, light, cam, Wpx, Hpx))[..., None]
    people_order = [P] + people[1:]
    rgb, a, label, owner = draw(people_order, light, cam, Wpx, Hpx)
    # linear premultiplied composite
    img = img * (1 - a[..., None]) + rgb
    if rng.random() < 0.10:
        occlude(img, label, owner, rng, light)
    seen = visible(person, label, owner, yaw, head)
    stats = None
    out = camera_effects(img, rng, site, site_rng)
    if with_stats:
        stats = {}
        big = cv2.resize(out, (owner.shape[1], owner.shape[0]), interpolation=cv2.INTER_NEAREST)
        for part in ("upper", "lower", "outer", "headwear", "bag", "shoes"):
            ids = [k for k, nme in enumerate(person.names) if nme == part]
            m = (owner == 0) & np.isin(label, ids)
            if m.sum() > 400:
                stats[part] = np.median(big[m][:, ::-1], 0).tolist()
    return out, seen, stats


def identity(job):
    seed, pid, views, stats = job
    if pid % CHUNK == 0:                                             # so that the number of workers changes nothing
        STATE["last"] = None
    rng = np.random.default_rng([seed, pid])
    person = Person(STATE["assets"], rng)
    base = rng.uniform(0, 2 * np.pi)
    rows = []
    for v in range(views):
        yaw = base + 2 * np.pi * v / views + rng.normal() * 0.3
        img, seen, st = one_view(person, rng, yaw, stats, np.random.default_rng([seed, pid, v, 1]) if STATE["site"] else None)
        caps = []
        for _ in range(int(rng.choice([2, 3], p=[0.6, 0.4]))):
            for _ in range(8):
                c = describe(rng, person.attr, seen)
                if c not in caps and 4 <= len(c.split()) <= 32:
                    break
            caps.append(c)
        q = int(rng.integers(64, 86))
        jpg = cv2.imencode(".jpg", img, [cv2.IMWRITE_JPEG_QUALITY, q, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1].tobytes()
        rows.append((v, jpg, caps, sorted(seen), st, round(float(yaw % (2 * np.pi)), 2)))
    STATE["last"] = (person.posed(person.random_pose(rng)), person.mats)
    return pid, person.attr, rows


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--assets", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--identities", type=int, default=5000)
    ap.add_argument("--ids", type=int, nargs=2, metavar=("FROM", "TO"), help="only these of them, counted from 1, both included")
    ap.add_argument("--views", type=int, default=4)
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--test", action="store_true", help="call everything split 'test'")
    ap.add_argument("--shard-mb", type=float, default=18)
    ap.add_argument("--colour-report", help="write the garment colours measured on every eighth identity to this file")
    Site.add_flags(ap)
    args = ap.parse_args()
    first, last = args.ids or (1, args.identities)
    if not 1 <= first <= last <= args.identities:
        ap.error("--ids: 1 <= FROM <= TO <= --identities")
    if (first - 1) % CHUNK:                                       # a passer-by is the identity before, within a chunk
        ap.error("--ids: FROM must be 1 more than a multiple of %d" % CHUNK)
    os.makedirs(args.out, exist_ok=True)
    jobs = [(args.seed, k, args.views, bool(args.colour_report) and k % 8 == 0) for k in range(first - 1, last)]
    entries, measured = [], []
    shard, size, n = None, 0, 0
    init(args.assets, args.seed, Site.from_flags(args))
    identity((args.seed, 10 ** 6, 1, False))                     # compiles the numba code in the parent
    STATE["last"] = None
    with mp.get_context("fork").Pool(args.jobs) as pool:
        for pid, attr, rows in pool.imap(identity, jobs, chunksize=CHUNK):
            split = "test" if args.test else ("val" if pid % 10 == 9 else "train")
            for v, jpg, caps, seen, st, yaw in rows:
                if shard is None or size + len(jpg) + 1024 > args.shard_mb * 1e6:
                    if shard is not None:
                        shard.close()
                    shard = tarfile.open(os.path.join(args.out, "shard-%03d.tar" % n), "w", format=tarfile.USTAR_FORMAT)
                    n, size = n + 1, 0
                path = "imgs/%04d/%05d_%d.jpg" % (pid // 100, pid, v)
                ti = tarfile.TarInfo(path)
                ti.size = len(jpg)
                shard.addfile(ti, io.BytesIO(jpg))
                size += (len(jpg) + 511) // 512 * 512 + 512
                entries.append({"split": split, "id": pid + 1, "file_path": path, "captions": caps, "shard": n - 1,
                                "visible": seen, "yaw": yaw, "attributes": attr})
                if st:
                    measured.append((attr, st))
    if shard is not None:
        shard.close()
    with open(os.path.join(args.out, "captions.json"), "w") as fh:
        fh.write("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in entries) + "\n]\n")
    if args.colour_report:
        report = {}
        for attr, st in measured:
            for part, rgb in st.items():
                spec = attr.get(part) or attr.get({"bag": "carried"}.get(part, part))
                if not spec or spec.get("pattern", "plain") != "plain" or spec.get("type") == "suit":
                    continue
                lin = (np.array(rgb) / 255) ** 2.2
                near = col.nearest(lin)
                kind = "denim" if spec.get("type") == "jeans" else "cloth"
                r = report.setdefault(kind + " " + spec["colour"], {"n": 0, "lab": [], "named": {}})
                r["n"] += 1
                r["lab"].append(col.linear_to_lab(lin).tolist())
                r["named"][near] = r["named"].get(near, 0) + 1
        for r in report.values():
            r["lab"] = np.median(r["lab"], 0).round(1).tolist()
        json.dump(report, open(args.colour_report, "w"), indent=1, sort_keys=True)
    print(len(entries), "pictures,", n, "shards")


if __name__ == "__main__":
    main()
