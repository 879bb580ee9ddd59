#!/usr/bin/env python3
"""Puts the third-party files of models/assets.toml into a folder, checked by size and sha256.

A file is taken from $SPOTTER_ASSETS, else from a folder of shared data where one exists, else over
https from its source. What is there already and right is left alone.
"""

import hashlib
import os
import pathlib
import shutil
import sys
import tomllib
import urllib.error
import urllib.request


def is_right(path, asset):
    if not path.is_file() or path.stat().st_size != asset["bytes"]:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == asset["sha256"]


def local_copy(asset, folders):
    for folder in folders:
        for path in (folder / asset["file"], folder / "models" / asset["file"]):
            if is_right(path, asset):
                return path
    return None


def download(asset, target):
    print(f"setup: fetching {asset['name']} from {asset['source']}")
    try:
        with urllib.request.urlopen(asset["source"], timeout=60) as reply, open(target, "wb") as out:
            shutil.copyfileobj(reply, out)
    except (urllib.error.URLError, OSError) as error:
        return f"its source did not answer ({error})"
    return None


def fetch(asset, cache, folders):
    """Returns why the asset cannot be had, or None."""
    target = cache / asset["file"]
    if is_right(target, asset):
        return None
    part = target.with_suffix(".part")
    copy = local_copy(asset, folders)
    if copy:
        shutil.copyfile(copy, part)
    elif not asset.get("source"):
        return "it has no address to fetch it from"
    elif reason := download(asset, part):
        return reason
    if not is_right(part, asset):
        part.unlink(missing_ok=True)
        return "what its source sent has another sha256"
    part.replace(target)
    return None


def main():
    cache, shared = map(pathlib.Path, sys.argv[1:3])
    cache.mkdir(parents=True, exist_ok=True)
    folders = [pathlib.Path(p) for p in (os.environ.get("SPOTTER_ASSETS"), shared) if p]
    assets = tomllib.loads(pathlib.Path("models/assets.toml").read_text())["asset"]
    missing = False
    for asset in assets:
        if reason := fetch(asset, cache, folders):
            missing = True
            print(f"setup: {asset['name']} cannot be had: {reason}.", file=sys.stderr)
    if missing:
        sys.exit("setup: put the files into a folder and name it: SPOTTER_ASSETS=FOLDER make setup")


main()
