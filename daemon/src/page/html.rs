//! The page as HTML. Every text that somebody else wrote goes through [`Text`].

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter, Write},
};

use jiff::Timestamp;

use super::board::{AlertShown, CameraShown, CameraState, SightingShown, Snapshot, event_name};
use crate::{
    alert::{rfc3339, state::StateName},
    sighting::Event,
};

/// Characters of a text that are shown.
const MAX_CHARS: usize = 400;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Spotter</title>
<link rel="stylesheet" href="/page.css">
<link rel="icon" href="/icon.svg" type="image/svg+xml">
"#;

/// A text of somebody else: escaped for content and for quoted attributes, bounded, and without
/// characters that change what stands around it.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (count, c) in self.0.chars().enumerate() {
            if count == MAX_CHARS {
                return f.write_char('…');
            }
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Control characters and those that turn the direction of what follows.
                c if c.is_control() || is_directional(c) => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_directional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A moment, in UTC until the script shows it in the reader's own time.
struct Time(Timestamp);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = self.0.strftime("%Y-%m-%d %H:%M:%S UTC");
        write!(f, r#"<time datetime="{}">{shown}</time>"#, rfc3339(self.0))
    }
}

/// The form for the token, with what was wrong with the last try.
pub(super) struct Login(pub(super) Option<&'static str>);

impl Display for Login {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        f.write_str(
            r#"<script src="/login.js" defer></script>
</head>
<body>
<main class="login">
<h1>Spotter</h1>
"#,
        )?;
        if let Some(problem) = self.0 {
            writeln!(f, r#"<p class="bad" role="alert">{}</p>"#, Text(problem))?;
        }
        f.write_str(
            r#"<form method="post" action="/login">
<label for="token">Token of this device</label>
<input value="spotter" autocomplete="username" hidden>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
<p class="quiet">The token stands in the file that <code>[page] token_file</code> names.</p>
</main>
</body>
</html>
"#,
        )
    }
}

/// The page.
pub(super) struct Index<'a>(pub(super) &'a Snapshot);

impl Display for Index<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        f.write_str(
            r#"<script src="/page.js" defer></script>
</head>
<body>
<header>
<h1>Spotter</h1>
<p id="live" class="quiet" role="status"></p>
<form method="post" action="/logout"><button>Log out</button></form>
</header>
<main>
"#,
        )?;
        health(f, self.0)?;
        cameras(f, &self.0.cameras)?;
        // Before the alerts, of which there may be hundreds.
        sightings(f, self.0)?;
        alerts(f, self.0)?;
        f.write_str("</main>\n</body>\n</html>\n")
    }
}

fn health(f: &mut Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    f.write_str("<div id=\"health\">\n")?;
    if !snapshot.health.ready {
        f.write_str("<p class=\"warn\">Starting: no camera is watched yet.</p>\n")?;
    }
    if !snapshot.health.stalled.is_empty() {
        f.write_str("<p class=\"bad\">Stalled:")?;
        for stage in &snapshot.health.stalled {
            write!(f, " {}", Text(stage))?;
        }
        f.write_str(". Persons may be missed; look into the log.</p>\n")?;
    }
    if let Some(why) = &snapshot.health.broker_away {
        writeln!(
            f,
            "<p class=\"warn\">The broker is away: <bdi>{}</bdi>. Sightings are kept and sent when it \
             is back; alerts do not reach this device meanwhile.</p>",
            Text(why)
        )?;
    }
    f.write_str("</div>\n")
}

fn cameras(f: &mut Formatter<'_>, cameras: &[CameraShown]) -> fmt::Result {
    f.write_str("<section id=\"cameras\" aria-labelledby=\"h-cameras\">\n")?;
    writeln!(f, r#"<h2 id="h-cameras">Cameras</h2>"#)?;
    if cameras.is_empty() {
        f.write_str("<p class=\"quiet\">No camera is configured.</p>\n")?;
    }
    f.write_str("<ul class=\"rows\">\n")?;
    for camera in cameras {
        let (class, word) = match camera.state {
            CameraState::Connecting => ("warn", "connecting"),
            CameraState::Streaming => ("good", "streaming"),
            CameraState::Down => ("bad", "down"),
            CameraState::Ended => ("quiet", "ended"),
        };
        write!(f, r#"<li><b><bdi>{}</bdi></b> "#, Text(&camera.name))?;
        write!(f, r#"<span class="state {class}">{word}</span>"#)?;
        if let Some(fps) = camera.fps {
            write!(f, r#" <span class="quiet">{fps:.1} frames/s</span>"#)?;
        }
        if let Some(since) = camera.since {
            write!(f, r#" <span class="quiet">since {}</span>"#, Time(since))?;
        }
        if let Some(reason) = &camera.reason {
            write!(f, r#"<p><bdi>{}</bdi></p>"#, Text(reason))?;
        }
        f.write_str("</li>\n")?;
    }
    f.write_str("</ul>\n</section>\n")
}

fn alerts(f: &mut Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    f.write_str("<section id=\"alerts\" aria-labelledby=\"h-alerts\">\n")?;
    writeln!(f, r#"<h2 id="h-alerts">Alerts</h2>"#)?;
    if snapshot.alerts.is_empty() {
        f.write_str("<p class=\"quiet\">Nothing is watched for.</p>\n")?;
    }
    f.write_str("<ul class=\"rows\">\n")?;
    snapshot.alerts.iter().try_for_each(|alert| one_alert(f, alert))?;
    f.write_str("</ul>\n")?;
    let more = snapshot.alerts_total.saturating_sub(snapshot.alerts.len());
    if more > 0 {
        writeln!(f, r#"<p class="quiet">and {more} more, which this page does not show</p>"#)?;
    }
    f.write_str("</section>\n")
}

fn one_alert(f: &mut Formatter<'_>, alert: &AlertShown) -> fmt::Result {
    let (class, word) = match alert.state {
        StateName::Armed => ("good", "armed"),
        StateName::PendingApproval => ("warn", "waits for approval"),
        StateName::Rejected => ("bad", "rejected"),
        StateName::Disabled => ("quiet", "disabled"),
        StateName::Expired => ("quiet", "expired"),
        StateName::Withdrawn => ("quiet", "withdrawn"),
    };
    write!(f, r#"<li><b><bdi>{}</bdi></b> "#, Text(&alert.id))?;
    write!(f, r#"<span class="state {class}">{word}</span>"#)?;
    if let Some(end) = alert.expires_at {
        write!(f, r#" <span class="quiet">until {}</span>"#, Time(end))?;
    }
    write!(f, r#"<p><bdi>{}</bdi></p>"#, Text(&alert.text))?;
    if let Some(reason) = &alert.reason {
        write!(f, r#"<p class="bad"><bdi>{}</bdi></p>"#, Text(reason))?;
    }
    for warning in &alert.warnings {
        write!(f, r#"<p class="warn"><bdi>{}</bdi></p>"#, Text(warning))?;
    }
    f.write_str("</li>\n")
}

fn sightings(f: &mut Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    f.write_str("<section id=\"sightings\" aria-labelledby=\"h-sightings\">\n")?;
    writeln!(f, r#"<h2 id="h-sightings">Sightings</h2>"#)?;
    if snapshot.sightings.is_empty() {
        f.write_str("<p class=\"quiet\">None since the start.</p>\n")?;
    }
    let texts: BTreeMap<&str, &str> =
        snapshot.alerts.iter().map(|alert| (alert.id.as_str(), alert.text.as_str())).collect();
    f.write_str("<ol class=\"cards\" reversed>\n")?;
    for shown in &snapshot.sightings {
        one_sighting(f, shown, texts.get(shown.sighting.alert.as_str()).copied())?;
    }
    f.write_str("</ol>\n</section>\n")
}

/// `wanted` is the alert's description, where the alert is still shown.
fn one_sighting(f: &mut Formatter<'_>, shown: &SightingShown, wanted: Option<&str>) -> fmt::Result {
    let (id, sighting) = (Text(&shown.id), &shown.sighting);
    let event = event_name(sighting.event);
    let has_picture = u8::from(shown.picture.is_some());
    let seq = sighting.seq;
    let class = if sighting.event == Event::End { "" } else { r#" class="in-view""# };
    write!(f, r#"<li id="s-{id}"{class} data-version="{seq}-{event}-{has_picture}">"#)?;
    let picture = shown.picture_seq;
    let (camera, alert) = (Text(sighting.camera.as_str()), Text(sighting.alert.as_str()));
    match shown.picture {
        // The number makes a browser load the picture of a better view, which has the same name.
        Some(_) => write!(
            f,
            r#"<a href="/sightings/{id}.jpg?{picture}"><img src="/sightings/{id}.jpg?{picture}" loading="lazy" alt="Person for {alert} on {camera}"></a>"#
        )?,
        None => f.write_str(r#"<span class="no-picture quiet">no picture</span>"#)?,
    }
    write!(f, "<div><b>{alert}</b> on <b>{camera}</b>")?;
    match sighting.event {
        Event::End => f.write_str(r#" <span class="state quiet">gone</span>"#)?,
        Event::New | Event::Update => f.write_str(r#" <span class="state good">in view</span>"#)?,
    }
    if let Some(wanted) = wanted {
        write!(f, r#"<p class="wanted"><bdi>{}</bdi></p>"#, Text(wanted))?;
    }
    write!(f, "<p>{}", Time(sighting.first_seen))?;
    if sighting.event == Event::End {
        write!(f, " to {}", Time(sighting.at))?;
    }
    f.write_str("</p>")?;
    let (score, threshold) = (sighting.score, sighting.threshold);
    write!(f, r#"<p class="quiet">score {score:.3}, needs {threshold:.3}"#)?;
    if sighting.late {
        f.write_str(", late")?;
    }
    f.write_str("</p>")?;
    for phrase in &sighting.phrases {
        write!(f, r#"<p class="quiet"><bdi>{}</bdi> {:.2}</p>"#, Text(&phrase.text), phrase.score)?;
    }
    f.write_str("</div></li>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place() {
        let hostile = "</p><script>alert('1')</script>\" onload=\"x & y\u{202e}\u{0}";
        assert_eq!(
            Text(hostile).to_string(),
            "&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=&quot;x &amp; \
             y\u{fffd}\u{fffd}"
        );
        assert_eq!(Text(&"ä".repeat(9000)).to_string().chars().count(), MAX_CHARS + 1);
    }
}
