//! A replay as a page: who was where and when, the best view of each, where the time went.
//!
//! One folder with `index.html` and pictures beside it; nothing from outside, no script.

use std::{fmt::Write as _, fs, path::Path};

use crate::{
    error::{Error, Result},
    picture,
    replay::{Bill, Recording, Trace},
    sighting::Event,
    track::TrackId,
};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--bar:#3b82f6}\
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}\
h2{margin-top:2.5rem}figure{margin:0}.scene{position:relative}.scene img,.scene svg{width:100%;display:block}\
.scene svg{position:absolute;inset:0;height:100%}table{border-collapse:collapse}\
td,th{padding:.25rem .75rem;border-bottom:1px solid var(--line);text-align:right}\
td:first-child,th:first-child{text-align:left}.people{display:flex;flex-wrap:wrap;gap:1rem}\
.people figure{width:9rem}.people img{width:100%;height:18rem;object-fit:contain;background:#8882}\
figcaption{font-size:.85rem}.bar{height:.8rem;background:var(--bar);border-radius:2px}\
.time td:nth-child(2){width:60%}";

/// Twelve colours that stay apart on a photograph.
const COLOURS: [&str; 12] = [
    "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6",
    "#bfef45", "#fabed4", "#469990", "#dcbeff",
];

/// Writes the page of a replay into a folder, which is made where it is missing.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write(folder: &Path, recordings: &[(String, Recording)], bill: &Bill) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut body = String::new();
    for (index, (name, recording)) in recordings.iter().enumerate() {
        write_recording(&mut body, folder, index, (name, recording))?;
    }
    write_bill(&mut body, bill);
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Spotter: replay</title>\
         <style>{STYLE}</style><h1>Replay</h1>{body}</html>\n"
    );
    let path = folder.join("index.html");
    fs::write(&path, page).map_err(Error::io(path))
}

fn write_recording(
    body: &mut String,
    folder: &Path,
    index: usize,
    (name, recording): (&str, &Recording),
) -> Result<()> {
    push(
        body,
        format_args!(
            "<h2>{}</h2><p>{} frames, {:.0} s; {} looked at; {} tracks; {} sightings.</p>",
            escape(name),
            recording.frames,
            recording.seconds,
            recording.looks.len(),
            recording.tracks.len(),
            recording.sightings.iter().filter(|s| s.event == Event::New).count(),
        ),
    );
    if let Some(scene) = &recording.scene {
        let file = format!("scene-{index}.jpg");
        let path = folder.join(&file);
        fs::write(&path, picture::jpeg(scene, 85)?).map_err(Error::io(path))?;
        push(
            body,
            format_args!(
                "<figure><div class=\"scene\"><img src=\"{file}\" alt=\"The frame with the most persons\">\
             <svg viewBox=\"0 0 1 1\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"Where the tracks walked\">"
            ),
        );
        for (id, trace) in &recording.tracks {
            write_path(body, *id, trace);
        }
        body.push_str("</svg></div><figcaption>Where everybody's feet were.</figcaption></figure>");
    }
    write_timeline(body, recording);
    body.push_str("<h3>Best views</h3><div class=\"people\">");
    for (id, trace) in &recording.tracks {
        write_person(body, folder, index, (*id, trace))?;
    }
    body.push_str("</div>");
    Ok(())
}

fn write_path(body: &mut String, id: TrackId, trace: &Trace) {
    push(
        body,
        format_args!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"3\" \
         vector-effect=\"non-scaling-stroke\" points=\"",
            colour(id)
        ),
    );
    for (x, y) in &trace.feet {
        push(body, format_args!("{x:.4},{y:.4} "));
    }
    push(body, format_args!("\"><title>track {}</title></polyline>", id.0));
}

fn write_timeline(body: &mut String, recording: &Recording) {
    let length = recording.seconds.max(0.1);
    body.push_str("<h3>In view</h3><table class=\"time\">");
    for (id, trace) in &recording.tracks {
        push(
            body,
            format_args!(
                "<tr><td>track {}</td><td><svg width=\"100%\" height=\"14\" viewBox=\"0 0 {length:.2} 1\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"from {:.1} to {:.1} s\">\
             <rect x=\"{:.2}\" width=\"{:.2}\" height=\"1\" fill=\"{}\"/></svg></td>\
             <td>{:.1}–{:.1} s</td></tr>",
                id.0,
                trace.first_s,
                trace.last_s,
                trace.first_s,
                (trace.last_s - trace.first_s).max(length / 200.0),
                colour(*id),
                trace.first_s,
                trace.last_s,
            ),
        );
    }
    body.push_str("</table>");
}

fn write_person(
    body: &mut String,
    folder: &Path,
    index: usize,
    (id, trace): (TrackId, &Trace),
) -> Result<()> {
    body.push_str("<figure>");
    if let Some((_, crop)) = &trace.best {
        let file = format!("track-{index}-{}.jpg", id.0);
        let path = folder.join(&file);
        fs::write(&path, picture::jpeg(crop, 90)?).map_err(Error::io(path))?;
        push(body, format_args!("<img src=\"{file}\" alt=\"Best view of track {}\">", id.0));
    }
    push(
        body,
        format_args!(
            "<figcaption>track {}: {} boxes, {} views</figcaption></figure>",
            id.0, trace.boxes, trace.views
        ),
    );
    Ok(())
}

fn write_bill(body: &mut String, bill: &Bill) {
    body.push_str(
        "<h2>Where the processor's time went</h2><table class=\"time\"><tr><th>part<th><th>s<th>share</tr>",
    );
    let parts = [
        ("decoding", bill.decode_cpu_s),
        ("detector", bill.detector_cpu_s),
        ("vision tower", bill.tower_cpu_s),
        ("all else", bill.own_cpu_s),
    ];
    for (name, cpu) in parts {
        let share = if bill.cpu_s > 0.0 { 100.0 * cpu / bill.cpu_s } else { 0.0 };
        push(
            body,
            format_args!(
                "<tr><td>{name}</td><td><svg width=\"100%\" height=\"14\" viewBox=\"0 0 100 1\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{share:.1} percent\">\
             <rect width=\"{share:.2}\" height=\"1\" fill=\"#3b82f6\"/></svg></td>\
             <td>{cpu:.2}</td><td>{share:.1} %</td></tr>"
            ),
        );
    }
    body.push_str("</table>");
}

fn colour(id: TrackId) -> &'static str {
    COLOURS[(id.0 % COLOURS.len() as u64) as usize]
}

fn push(body: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = body.write_fmt(text);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
