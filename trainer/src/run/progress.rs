//! What a person sees of a run.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{stopwatch, tell};

/// Time between two lines where no terminal shows a bar.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// Where a run stands, for people.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Steps that were made, and all there will be.
    pub steps: [u64; 2],
    /// Epochs that were made, with their fraction.
    pub epoch: f64,
    /// Mean loss of the last steps.
    pub loss: f64,
    /// Pairs a second.
    pub speed: f64,
}

/// Is told of each step.
type Watcher = Box<dyn FnMut(&Now)>;

/// A bar on a terminal, lines elsewhere.
pub struct Progress {
    bar: ProgressBar,
    told: Option<Instant>,
    watcher: Option<Watcher>,
}

impl Progress {
    /// On standard error; `quiet`: nowhere.
    pub fn new(quiet: bool) -> Self {
        let bar = match quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(0),
        };
        let style = "{bar:32} {pos}/{len} {msg}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        let told = (!quiet && bar.is_hidden()).then(stopwatch::now);
        Self { bar, told, watcher: None }
    }

    /// Calls this after each step as well.
    pub fn watch(&mut self, watcher: impl FnMut(&Now) + 'static) {
        self.watcher = Some(Box::new(watcher));
    }

    /// The run goes on from this step.
    pub fn from(&self, step: u64) {
        self.bar.set_position(step);
        self.bar.reset_eta();
    }

    /// A step was made.
    pub fn now(&mut self, now: &Now) {
        let [done, all] = now.steps;
        if let Some(watcher) = &mut self.watcher {
            watcher(now);
        }
        let said =
            format!("epoch {:.2}, loss {:.3}, {:.0} pairs/s", now.epoch, now.loss, now.speed);
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.set_message(said.clone());
        if let Some(told) = &mut self.told
            && told.elapsed() >= BETWEEN_LINES
        {
            *told = stopwatch::now();
            tell(&format!("step {done}/{all}: {said}"));
        }
    }

    /// Something that stays to be read.
    pub fn say(&self, line: &str) {
        match self.bar.is_hidden() {
            true if self.told.is_none() => {}
            true => tell(line),
            false => self.bar.println(line),
        }
    }

    /// Something that must be known, also where nobody wants to see progress.
    pub fn warn(&self, line: &str) {
        let line = format!("spotter-trainer: {line}");
        match self.bar.is_hidden() {
            true => tell(&line),
            false => self.bar.println(line),
        }
    }

    /// The bar's work is done.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
