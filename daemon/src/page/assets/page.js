// Keeps the open page current. It takes finished HTML from the server, so that texts are escaped in
// one place, and shows times as the reader's clock does. Without it the page is complete, only still.
"use strict";

const PAUSE_MS = 1000;

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    const date = isToday ? {} : { dateStyle: "medium" };
    time.textContent = at.toLocaleString([], { ...date, timeStyle: isToday ? "medium" : "short" });
    time.title = at.toLocaleString();
  }
}

// Cards that did not change stay as they are: their pictures are not loaded again, and whoever has
// the keyboard's focus in one keeps it.
function keepCards(fresh) {
  for (const card of fresh.querySelectorAll(".cards > li")) {
    const old = document.getElementById(card.id);
    if (old && old.dataset.version === card.dataset.version) card.replaceWith(old);
  }
}

// Back to where the keyboard was: the same element, or its like in the card that took its place.
function focusAgain(had) {
  const card = had.isConnected ? null : had.closest("li[id]");
  const now = card ? document.getElementById(card.id)?.querySelector(had.localName) : had;
  now?.focus({ preventScroll: true });
}

async function refresh() {
  const answer = await fetch("/", { cache: "no-store" });
  if (answer.redirected) return location.assign("/login");
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localTimes(fresh);
  for (const id of ["health", "cameras", "alerts", "sightings"]) {
    const [now, next] = [document.getElementById(id), fresh.getElementById(id)];
    if (!now || !next) continue;
    const focused = document.activeElement;
    const had = now.contains(focused) ? focused : null;
    if (id === "sightings") keepCards(next);
    now.replaceWith(document.adoptNode(next));
    if (had) focusAgain(had);
  }
}

let due = false;
let pausing = false;

async function changed() {
  due = true;
  if (pausing) return;
  pausing = true;
  while (due) {
    due = false;
    try { await refresh(); } catch { /* the stream says when the device is back */ }
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
  pausing = false;
}

// A stream that breaks is opened again by the browser; one that was refused is not, for example where
// too many pages are open. Its first event is always `changed`, so that nothing is missed.
const AGAIN_MS = 5000;

function listen() {
  const live = document.getElementById("live");
  const stream = new EventSource("/events");
  stream.onopen = () => {
    live.textContent = "live";
    live.className = "good";
  };
  stream.onerror = () => {
    live.textContent = "no connection; what is shown may be old";
    live.className = "bad";
    if (stream.readyState === EventSource.CLOSED) {
      setTimeout(listen, AGAIN_MS);
      changed();
    }
  };
  stream.addEventListener("sighting", changed);
  stream.addEventListener("changed", changed);
}

listen();
localTimes(document);
