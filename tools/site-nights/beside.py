"""What a night's learning costs the cameras: the time from frame to sighting alone and beside `spotter-trainer adapt`.

    python beside.py --bundle BUNDLE --pack PACK --feedback FOLDER --reference REFERENCE --texts FILE --video F --video F [--pairs 3] [--sightings 500]

For each arm a daemon runs with a broker of its own on the looped videos, each a camera at full rate, and many alerts under a fixed threshold, each
of which fits some. In turns nothing runs beside it, and an adaptation as spotter-adapt.service starts it: idle scheduling of processor and disk, the
lowest priority. An arm ends after so many new sightings; none is counted in its first 25 s. A sighting's time is from when its frame left the decoder, as it
says, to its arrival here. --texts is a JSON list of descriptions. Needs mosquitto's clients, chrt and ionice.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timedelta, timezone


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


class Listener:
    """New sightings as they arrive: seconds since their frame."""

    def __init__(self, port):
        command = ["mosquitto_sub", "-V", "5", "-p", str(port), "-q", "1", "-t", "spotter/+/+/sightings", "-F", "%U %p"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.ages, self.persons, self.lock = [], set(), threading.Lock()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            arrived, payload = line.split(" ", 1)
            told = json.loads(payload)
            if told["event"] == "new":
                at = datetime.fromisoformat(told["at"].replace("Z", "+00:00")).timestamp()
                with self.lock:
                    self.ages.append(float(arrived) - at)
                    self.persons.add((told["camera"], str(told.get("track"))))

    def collect(self, many):
        with self.lock:
            self.ages.clear()
            self.persons.clear()
        while True:
            time.sleep(0.2)
            with self.lock:
                if len(self.ages) >= many:
                    return list(self.ages)


def dropped(metrics):
    """Items that stages dropped since the box was short, by reason."""
    page = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % metrics).read().decode()
    found = {}
    for reason, value in re.findall(r'spotter_stage_dropped_total\{[^}]*reason="(newer_frame|queue_full)"[^}]*\} (\d+)', page):
        found[reason] = found.get(reason, 0) + int(value)
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "pack", "feedback", "reference"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--video", action="append", required=True)
    ap.add_argument("--spotterd", default="target/release/spotterd")
    ap.add_argument("--trainer", default="target/release/spotter-trainer")
    ap.add_argument("--pairs", type=int, default=3)
    ap.add_argument("--sightings", type=int, default=500)
    ap.add_argument("--alerts", type=int, default=100)
    ap.add_argument("--texts", required=True)
    ap.add_argument("--threshold", default="0.3")
    ap.add_argument("--port", type=int, default=18933)
    args = ap.parse_args()
    room = tempfile.mkdtemp()
    texts = json.load(open(args.texts))[: args.alerts]
    print("| pair | arm | sightings | persons | median ms | p95 ms | p99 ms | seconds | newer_frame | queue_full |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    worst = {}
    for pair in range(args.pairs):
        for arm in (("alone", "beside") if pair % 2 == 0 else ("beside", "alone")):
            one(args, room, texts, pair, arm, worst)
    shutil.rmtree(room, ignore_errors=True)
    medians = {arm: quantile(values, 0.5) for arm, values in worst.items()}
    print("p99 beside / alone, medians of the pairs: %.3f" % (medians["beside"] / medians["alone"]))


def one(args, room, texts, pair, arm, worst):
    """One arm with a daemon of its own: an alert's quota of sightings an hour would stop the next."""
    state = os.path.join(room, "state-%d-%s" % (pair, arm))
    cameras = "".join('[[camera]]\nid = "c%d"\nurl = "file:%s"\nrepeat = true\n' % (at, os.path.abspath(video)) for at, video in enumerate(args.video))
    config = os.path.join(room, "c.toml")
    with open(config, "w") as file:
        file.write('bundle = "%s"\n[metrics]\nlisten = "127.0.0.1:%d"\n[mqtt]\nbroker = "embedded"\nembedded_port = %d\n[decision]\npolicy = "fixed=%s"\n[storage]\nfolder = "%s"\n%s'
                   % (os.path.abspath(args.bundle), args.port + 7, args.port, args.threshold, state, cameras))
    daemon = subprocess.Popen([args.spotterd, "run", config], stderr=open(os.path.join(room, "log"), "w"))
    learner, listener = None, None
    try:
        time.sleep(6)
        ends = (datetime.now(timezone.utc) + timedelta(hours=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for at, text in enumerate(texts):
            alert = {"schema": 1, "revision": 1, "text": text, "expires_at": ends, "cooldown_s": 0}
            while subprocess.run(["mosquitto_pub", "-V", "5", "-p", str(args.port), "-q", "1", "-r", "-t", "spotter/site/alerts/a%d" % at, "-m", json.dumps(alert)]).returncode:
                time.sleep(0.1)
        listener = Listener(args.port)
        if arm == "beside":
            out = os.path.join(room, "out-%d" % pair)
            command = ["chrt", "--idle", "0", "ionice", "-c", "3", "nice", "-n", "19", args.trainer, "adapt", "--pack", args.pack, "--feedback", args.feedback,
                       "--reference", args.reference, "--precisions", "f32", "--minutes", "60", "--out", out, "--json"]
            learner = subprocess.Popen(command, stdout=open(os.path.join(room, "learn.log"), "w"), stderr=subprocess.STDOUT)
        # It reads verdicts first; what is measured is its training too.
        time.sleep(25)
        before, start = dropped(args.port + 7), time.monotonic()
        ages = listener.collect(args.sightings)
        seconds, after = time.monotonic() - start, dropped(args.port + 7)
        if learner and learner.poll() is not None:
            sys.exit("the adaptation ended before the arm did: " + open(os.path.join(room, "learn.log")).read()[-2000:])
        lost = {reason: after.get(reason, 0) - before.get(reason, 0) for reason in ("newer_frame", "queue_full")}
        worst.setdefault(arm, []).append(quantile(ages, 0.99))
        cpu = ""
        if learner:
            fields = open("/proc/%d/stat" % learner.pid).read().rsplit(")", 1)[1].split()
            cpu = " learner cpu s %.0f" % ((int(fields[11]) + int(fields[12])) / 100)
        print("| %d | %s | %d | %d | %.0f | %.0f | %.0f | %.0f | %d | %d |%s" % (pair + 1, arm, len(ages), len(listener.persons), 1000 * quantile(ages, 0.5), 1000 * quantile(ages, 0.95), 1000 * quantile(ages, 0.99), seconds, lost["newer_frame"], lost["queue_full"], cpu), flush=True)
    finally:
        if learner:
            learner.send_signal(signal.SIGKILL)
            learner.wait()
        if listener:
            listener.process.kill()
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
