//! The staff's side of the demo: arms two alerts and watches, over MQTT and nothing else.

use std::{path::PathBuf, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use super::journal::Journal;
use crate::{
    alert::AlertId,
    clock::{Clock, SystemClock},
    cmd::alert,
    config::Config,
    staff::{Board, Desk, Draft, Event, Fault, Pictures, Session, Watching, times},
};

/// Two persons of the street scene, as a witness might describe them.
const ALERTS: [(&str, &str); 2] = [
    ("grey-coat", "woman wearing a light grey coat and black leggings"),
    ("yellow-jacket", "man wearing a yellow jacket and light blue jeans"),
];
/// How long the alerts live.
const SPAN: &str = "24h";
/// Seconds between two sightings of one alert: none, as the scene is short.
const COOLDOWN_S: f64 = 0.0;
/// Time for the daemon to reach its own broker.
const ONLINE_WITHIN: Duration = Duration::from_secs(20);
/// Time for the daemon to read and arm a text, in seconds.
const ARMED_WITHIN_S: u64 = 60;
/// How often lines are looked through whose picture does not come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What staff need.
pub(super) struct Staff {
    pub(super) config: Config,
    pub(super) pictures: PathBuf,
    /// How long to watch; for ever where it is not given.
    pub(super) span: Option<Duration>,
}

/// How the watching went.
pub(super) struct Seen {
    /// Sightings that began.
    pub(super) persons: u64,
    /// Whether a person ended it.
    pub(super) was_interrupted: bool,
}

impl Staff {
    /// Arms and watches until the time is over or `ended` completes.
    ///
    /// # Errors
    /// What keeps staff from their broker, and output that cannot be written.
    pub(super) async fn work(self, mut ended: oneshot::Receiver<()>) -> Result<Seen, Fault> {
        let desk = Desk::of(&self.config)?;
        let mut journal = Journal::new(self.pictures.clone());
        let work = async {
            // Before anybody is looked for, so that nobody is missed.
            let mut watching = Watching::start(&desk, Pictures::Wanted).await?;
            arm(&desk).await?;
            let until = match self.span {
                Some(span) => format!("Watching for {} s. Ctrl-C ends it before.", span.as_secs()),
                None => "Watching. Ctrl-C ends it.".to_owned(),
            };
            alert::print(&format!("{until}\n\n"))?;
            self.watch(&mut watching, &mut journal).await?;
            watching.close().await;
            Ok::<_, Fault>(())
        };
        let was_interrupted = tokio::select! {
            done = work => {
                done?;
                false
            }
            _ = &mut ended => true,
        };
        journal.finish()?;
        Ok(Seen { persons: journal.persons(), was_interrupted })
    }

    async fn watch(&self, watching: &mut Watching, journal: &mut Journal) -> Result<(), Fault> {
        let told = async {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                let event = tokio::select! {
                    event = watching.next() => event?,
                    _ = looks.tick() => {
                        journal.look()?;
                        continue;
                    }
                };
                match event {
                    Event::Heard(heard) => journal.take(&heard)?,
                    Event::Lost(why) => eprintln!("Connection lost: {why}. Trying again."),
                    Event::Back { .. } => eprintln!("Connected again."),
                }
            }
        };
        match self.span {
            Some(span) => timeout(span, told).await.unwrap_or(Ok(())),
            None => told.await,
        }
    }
}

/// Waits for the device and publishes the alerts, one after the other.
async fn arm(desk: &Desk) -> Result<(), Fault> {
    let mut session = Session::open(desk).await?;
    let mut board = Board::default();
    let site = session.site();
    session.read(vec![site.alerts(), site.states(), site.statuses()], &mut board).await?;
    let online = async {
        while !board.devices.values().any(|device| device.is_online()) {
            let heard = session.next().await?;
            board.take(&heard);
        }
        Ok::<_, Fault>(())
    };
    timeout(ONLINE_WITHIN, online)
        .await
        .unwrap_or_else(|_| Err(Fault::Unfit("the daemon does not reach its own broker".into())))?;
    let now = times::now(&SystemClock::new() as &dyn Clock);
    for (name, text) in ALERTS {
        let id = AlertId::new(name)
            .map_err(|error| crate::Error::internal("alert of the demo", error))?;
        let draft = Draft {
            text: Some(text.to_owned()),
            like: None,
            without: Vec::new(),
            expires_at: times::after(SPAN, &now)?,
            cameras: Vec::new(),
            zones: Vec::new(),
            schedule: Vec::new(),
            budget_per_day: None,
            cooldown_s: Some(COOLDOWN_S),
            purpose: Some("demo".to_owned()),
            created_by: None,
        };
        let revision = board.next_revision(&id, now.timestamp());
        let message = (revision, draft.message(revision)?);
        alert::tell(&mut session, &mut board, &id, message, ARMED_WITHIN_S).await?;
        let state = board.answers.get(&id).and_then(|answers| answers.values().next());
        let state = state.map_or("not answered yet".to_owned(), alert::answers::state);
        alert::print(&format!("Alert {name}: {text}: {state}\n"))?;
    }
    session.close().await;
    Ok(())
}
