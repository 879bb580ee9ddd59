//! Learning on site: from the verdicts of staff to a candidate that is no worse, or to the reasons why there is
//! none.
//!
//! ```text
//! OUT/adapt.json    what it is made from; says that the folder is one of these
//! OUT/status.json   where it stands
//! OUT/run/          the training, which goes on after a kill
//! OUT/delta/        the candidate that passed the gate
//! OUT/refused/      the one that did not, for inspection
//! OUT/report.json, report.html
//! ```
//! Every night begins with the vendor's tensors and learns from all verdicts that are kept. So losses do not add
//! up, a delta always applies to the bundle that the vendor signed, and what was erased is in no later one.

mod doubt;
pub mod gate;
mod page;
mod settings;
mod site;
mod status;

pub use doubt::Doubt;
pub use settings::{Replay, Settings};
pub use site::{Counts, LeftOut, Limits, Site};
pub use status::{State, Status};

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use spotter_models::{
    Digest, Generation,
    bundle::{Changed, Delta, Pack, delta, sign},
    cohort::Cohort,
    embedding::dot,
    manifest::Precision,
    signature::SecretKey,
    towers::{Config, Tensor, Weights},
};
use tch::Device;

use crate::{
    base::{read_json, write_json},
    dataset::{Dataset, Split, is_in_share},
    error::{Error, Result},
    evaluate::{
        ModelRecord, NetEmbedder,
        embed::{images, texts},
    },
    export::{cohort, probe},
    net::{Net, Parameters},
    run::{self, Progress, Start, train_on},
};
use gate::{Compared, Marks};
use status::Teller;

const MARK: &str = "adapt.json";
const REPORT: &str = "report.json";
const PAGE: &str = "report.html";
const RUN: &str = "run";
const DELTA: &str = "delta";
const REFUSED: &str = "refused";
/// Pictures of other persons that a text's scores are measured by.
const BANK: usize = 400;
/// Most pictures of the reference set that are judged: two models in some seconds each.
const MOST_REFERENCE: usize = 2000;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// The pack that the vendor's bundle was folded from.
    pub pack: PathBuf,
    /// What runs now, where it is not the vendor's bundle: a delta, or a bundle of the daemon's store.
    pub running: Option<PathBuf>,
    /// The daemon's folder of verdicts.
    pub feedback: PathBuf,
    /// The bundle's reference set: `train` against forgetting, `val` to judge by.
    pub reference: PathBuf,
    /// How.
    pub settings: Settings,
    /// The number formats of the result.
    pub precisions: Vec<Precision>,
    /// What people call the result.
    pub name: String,
    /// Now, RFC 3339.
    pub created_at: String,
    /// The folder of the results.
    pub out: PathBuf,
    /// Where to compute.
    pub device: Device,
    /// Threads of libtorch.
    pub threads: usize,
    /// Bytes of memory for decoded pictures.
    pub cache_bytes: usize,
    /// The site's secret key, which signs a candidate that passed.
    pub key: Option<PathBuf>,
    /// Time for training, over all sittings.
    pub budget: Duration,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// There is a candidate, or none and the reasons.
    Judged(Box<Report>),
    /// Stopped; the same command goes on.
    Stopped,
}

/// What came out, for people and for the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the candidate may serve.
    pub passed: bool,
    /// Why not; sentences.
    pub reasons: Vec<String>,
    /// What people call the candidate.
    pub name: String,
    /// When it was made.
    pub created_at: String,
    /// The vendor's bundle.
    pub parent: Generation,
    /// The candidate; `None` where nothing was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Generation>,
    /// What staff said.
    pub verdicts: Counts,
    /// How far the verdicts are to be believed.
    pub doubt: Doubt,
    /// Steps of training, and seconds; zeros where nothing was trained.
    pub steps: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// On the site's persons, against what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Compared>,
    /// On the reference set, against the vendor's bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Compared>,
}

/// Learns and judges until the end, or until `stop` is set.
///
/// # Errors
/// Where an input is broken, the folder is somebody else's, or training diverges. That verdicts do not suffice or the
/// candidate is worse is no error, but a refusal in the report.
pub fn adapt(job: &Job, stop: &AtomicBool, progress: &mut Progress) -> Result<Outcome> {
    tch::set_num_threads(i32::try_from(job.threads).unwrap_or(i32::MAX));
    refuse_foreign(&job.out)?;
    std::fs::create_dir_all(&job.out).map_err(spotter_models::Error::io(&job.out))?;
    // Held to the end: another one would remove what this one makes.
    let _lock = run::lock(&job.out)?;
    let teller = Teller::new(&job.out);
    teller.tell(State::Reading);
    let outcome = Adaptation::begin(job).and_then(|begun| begun.work(stop, progress, &teller));
    match &outcome {
        Ok(Outcome::Judged(report)) => teller.tell(match report.passed {
            true => State::Passed,
            false => State::Refused,
        }),
        Ok(Outcome::Stopped) => teller.tell(State::Stopped),
        Err(_) => teller.tell(State::Failed),
    }
    outcome
}

/// What an adaptation is made from.
struct Adaptation<'a> {
    job: &'a Job,
    pack: Pack,
    parent: Generation,
    /// All tensors of what runs now.
    running: Weights,
    site: Site,
    reference: Dataset,
    key: Option<SecretKey>,
}

impl<'a> Adaptation<'a> {
    fn begin(job: &'a Job) -> Result<Self> {
        let pack = Pack::open(&job.pack)?;
        let parent = pack.generation(&job.precisions)?;
        let running = match &job.running {
            None => pack.weights().clone(),
            Some(folder) => {
                let trained = match delta::is_delta(folder) {
                    true => Some(Delta::open(folder)?.tensors()?),
                    false => delta::tensors_of(folder)?,
                };
                match trained {
                    Some(trained) => pack.clone().change(&trained)?.weights().clone(),
                    None => pack.weights().clone(),
                }
            }
        };
        let site = Site::read(&job.feedback, &job.settings.limits)?;
        let reference = Dataset::open(&job.reference)?;
        // Read before hours are spent on what could not be signed.
        let key = job.key.as_deref().map(|key| SecretKey::read(key, None)).transpose()?;
        let begun = Self { job, pack, parent, running, site, reference, key };
        begun.settle()?;
        Ok(begun)
    }

    /// Goes on in the folder where it was begun with the same; removes what was made of something else.
    fn settle(&self) -> Result<()> {
        let mark = Mark { inputs: self.inputs()? };
        let path = self.job.out.join(MARK);
        let is_same = path.is_file() && read_json::<Mark>(&path).is_ok_and(|there| there == mark);
        if is_same && !self.job.out.join(REPORT).exists() {
            return Ok(());
        }
        for name in [RUN, DELTA, REFUSED] {
            let folder = self.job.out.join(name);
            if folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(spotter_models::Error::io(&folder))?;
            }
        }
        for name in [REPORT, PAGE] {
            let file = self.job.out.join(name);
            if file.exists() {
                std::fs::remove_file(&file).map_err(spotter_models::Error::io(&file))?;
            }
        }
        write_json(&path, &mark)
    }

    /// A hash of all that the result follows from.
    fn inputs(&self) -> Result<Digest> {
        let (job, pack) = (self.job, &self.pack);
        let running = run::sha256_of(&self.running, pack.config());
        let site = self.site.dataset()?.fingerprint();
        Ok(Digest::of(
            format!(
                "{:?} {running} {site} {} {}",
                pack.lineage(),
                self.reference.fingerprint(),
                job.settings.to_text()?
            )
            .as_bytes(),
        ))
    }

    fn work(
        mut self,
        stop: &AtomicBool,
        progress: &mut Progress,
        teller: &Teller,
    ) -> Result<Outcome> {
        let mut reasons = Vec::new();
        let doubt = self.doubt()?;
        if !doubt.is_credible() {
            reasons.push(format!(
                "what staff confirm has no higher scores than what they reject, beyond chance (agreement {:.2}, give or \
                 take {:.2}; 0.5 is none): were confirm and reject mixed up, or are there too few verdicts?",
                doubt.agreement.unwrap_or(0.5),
                2.0 * doubt.agreement_error
            ));
        }
        let counts = &self.site.counts;
        if counts.texts < self.job.settings.texts
            || counts.held_out < self.job.settings.gate.persons
        {
            reasons.push(format!(
                "verdicts about {} descriptions to learn from and {} to judge by are there; {} and {} are needed: \
                 wait for more",
                counts.texts,
                counts.held_out,
                self.job.settings.texts,
                self.job.settings.gate.persons
            ));
        }
        if !reasons.is_empty() {
            return self.refuse(doubt, reasons).map(|report| Outcome::Judged(Box::new(report)));
        }
        progress.say(&format!(
            "learning from {} confirmed and {} rejected sightings; {} left out as doubtful",
            self.site.counts.confirmed,
            self.site.counts.rejected,
            self.site.counts.left_out.get(&LeftOut::Doubtful).unwrap_or(&0)
        ));
        match self.train(stop, progress, teller)? {
            run::Outcome::Stopped { .. } => Ok(Outcome::Stopped),
            run::Outcome::Finished(ended) => {
                teller.tell(State::Judging);
                progress.say("judging the candidate on persons that it did not learn from");
                self.judge(doubt, &ended).map(|report| Outcome::Judged(Box::new(report)))
            }
        }
    }

    /// Asks what runs about every verdict, and leaves out those that are likely to be wrong.
    fn doubt(&mut self) -> Result<Doubt> {
        let mut embedder = embedder(&self.running, self.pack.config(), self.job.device)?;
        let judged = &self.site.judged;
        let captions: Vec<&str> = judged.iter().map(|judged| judged.text.as_str()).collect();
        let captions = texts(&mut embedder, &captions)?;
        let folder = self.site.dataset_of_pictures()?;
        let count = folder.records().len();
        let shown = images(&mut embedder, &mut (0..count).map(|at| folder.picture(at)))?;
        let bank = self.reference.split(Some(Split::Train));
        let step = bank.len().div_ceil(BANK).max(1);
        let mut others = bank.iter().step_by(step).map(|at| self.reference.picture(*at));
        let bank: Vec<Vec<f32>> =
            images(&mut embedder, &mut others)?.into_iter().filter_map(Result::ok).collect();
        let (mut pairs, mut places, mut at) = (Vec::new(), Vec::new(), 0);
        for (place, (judged, caption)) in judged.iter().zip(captions).enumerate() {
            let pictures = shown.get(at..at + judged.pictures.len()).unwrap_or_default();
            at += judged.pictures.len();
            let looks: Vec<&Vec<f32>> =
                pictures.iter().filter_map(|row| row.as_ref().ok()).collect();
            if let (Ok(caption), false) = (caption, looks.is_empty()) {
                pairs.push((standing(&caption, &looks, &bank), judged.fits));
                places.push(place);
            }
        }
        let doubt = Doubt::of(&pairs);
        let doubted = |pair: usize| {
            let (_, said) = pairs.get(pair).copied()?;
            let place = places.get(pair).copied()?;
            let learnt = self.site.judged.get(place).is_some_and(|judged| !judged.held_out);
            (learnt && doubt.is_doubtful(pair, said)).then_some(place)
        };
        let doubtful: BTreeSet<usize> = (0..pairs.len()).filter_map(doubted).collect();
        self.site.doubt(&doubtful);
        Ok(doubt)
    }

    fn train(
        &self,
        stop: &AtomicBool,
        progress: &mut Progress,
        teller: &Teller,
    ) -> Result<run::Outcome> {
        let job = self.job;
        let data = self.lessons()?;
        let training = run::Job {
            recipe: job.settings.recipe.clone(),
            base: None,
            start: Some(Start {
                weights: self.pack.weights().clone(),
                config: self.pack.config().clone(),
            }),
            data: self.site.folder().to_owned(),
            out: job.out.join(RUN),
            device: job.device,
            threads: job.threads,
            workers: 1,
            cache_bytes: job.cache_bytes,
            sitting: None,
            budget: Some(job.budget),
        };
        let told = teller.clone();
        progress.watch(move |now| told.step(now.steps));
        train_on(&training, data, stop, progress)
    }

    /// The site's pairs, and about as many of the reference set against forgetting.
    fn lessons(&self) -> Result<Dataset> {
        let mut site = self.site.dataset()?;
        site.retain(|record| record.split == Split::Train);
        let mut replay = Dataset::open(&self.job.reference)?;
        replay.retain(|record| record.split == Split::Train);
        let Replay { ratio, least } = self.job.settings.replay;
        let wanted = (ratio * site.records().len() as f64).max(least as f64);
        let share = wanted / replay.records().len().max(1) as f64;
        replay.retain(|record| is_in_share(record.person, share));
        let name = format!("{} with {}", site.name(), replay.name());
        Ok(Dataset::join(name, vec![site, replay]))
    }

    /// Judges what was trained and writes candidate and report.
    fn judge(&self, doubt: Doubt, ended: &run::Ended) -> Result<Report> {
        let path = self.job.out.join(RUN).join(run::ADAPTERS);
        let trained = Weights::read(&[path])?;
        let changed = self.pack.clone().change(&self.blended(&trained)?)?;
        let config = self.pack.config();
        let marks = |weights: &Weights, data: &Dataset| {
            Marks::of(&mut embedder(weights, config, self.job.device)?, data, &mut || {})
        };
        let site = self.site.dataset()?;
        let site = gate::compare(
            "site",
            &marks(&self.running, &site)?,
            &marks(changed.weights(), &site)?,
        )?;
        let reference = self.reference_val()?;
        let reference = gate::compare(
            reference.name(),
            &marks(self.pack.weights(), &reference)?,
            &marks(changed.weights(), &reference)?,
        )?;
        let reasons = gate::reasons(&site, &reference, &self.job.settings.gate);
        let folder = if reasons.is_empty() { DELTA } else { REFUSED };
        let mut report = Report {
            passed: reasons.is_empty(),
            reasons,
            name: self.job.name.clone(),
            created_at: self.job.created_at.clone(),
            parent: self.parent,
            candidate: None,
            verdicts: self.site.counts.clone(),
            doubt,
            steps: ended.steps,
            seconds: ended.seconds,
            site: Some(site),
            reference: Some(reference),
        };
        let folder = self.job.out.join(folder);
        report.candidate = Some(self.write_delta(&folder, &changed, &report)?);
        if let (true, Some(key)) = (report.passed, &self.key) {
            sign(&folder, key)?;
        }
        self.finish(report)
    }

    /// Part of the way from the vendor's tensors to the trained ones: most of what was gained, and less of what was
    /// forgotten (WiSE-FT, arXiv 2109.01903).
    fn blended(&self, trained: &Weights) -> Result<Weights> {
        let part = self.job.settings.blend;
        let mut blended = Weights::default();
        for (name, new) in trained.iter() {
            let old = self.pack.weights().get(name, new.shape())?;
            let between = old.iter().zip(new.values()).map(|(old, new)| old + part * (new - old));
            blended.insert(name, Tensor::new(new.shape(), between.collect())?);
        }
        Ok(blended)
    }

    /// The reference set's persons to judge by; evenly chosen where there are very many.
    fn reference_val(&self) -> Result<Dataset> {
        let mut reference = Dataset::open(&self.job.reference)?;
        reference.retain(|record| record.split == Split::Val);
        let share = MOST_REFERENCE as f64 / reference.records().len().max(1) as f64;
        reference.retain(|record| is_in_share(record.person, share));
        Ok(reference)
    }

    fn write_delta(&self, folder: &Path, changed: &Changed, report: &Report) -> Result<Generation> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(spotter_models::Error::io(folder))?;
        }
        let config = changed.config();
        let mut model = embedder(changed.weights(), config, self.job.device)?;
        let probe = probe(&mut model)?;
        let persons = self.pack.cohort().map(Cohort::persons);
        let cohort = persons.map(|most| cohort(&mut model, &self.reference, most)).transpose()?;
        let evaluation = [("site", json(&report.site)?), ("reference", json(&report.reference)?)];
        let sightings: Vec<&str> =
            self.site.learnt().map(|judged| judged.sighting.as_str()).collect();
        let provenance = [
            ("verdicts", json(&report.verdicts)?),
            ("sightings", json(&sightings)?),
            ("wrong_verdicts", json(&report.doubt.wrong)?),
        ];
        let named = |pairs: &[(&str, serde_json::Value)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        let draft = delta::Draft {
            name: report.name.clone(),
            created_at: report.created_at.clone(),
            parent: self.parent,
            precisions: &self.job.precisions,
            probe: &probe,
            cohort: cohort.as_ref(),
            evaluation: named(&evaluation),
            provenance: named(&provenance),
        };
        Ok(delta::write(folder, changed, &draft)?.result)
    }

    /// A report on verdicts that nothing can be learnt from.
    fn refuse(&self, doubt: Doubt, reasons: Vec<String>) -> Result<Report> {
        self.finish(Report {
            passed: false,
            reasons,
            name: self.job.name.clone(),
            created_at: self.job.created_at.clone(),
            parent: self.parent,
            candidate: None,
            verdicts: self.site.counts.clone(),
            doubt,
            steps: 0,
            seconds: 0.0,
            site: None,
            reference: None,
        })
    }

    fn finish(&self, report: Report) -> Result<Report> {
        page::write(&self.job.out.join(PAGE), &report)?;
        // Last: where it is, all else is.
        write_json(&self.job.out.join(REPORT), &report)?;
        Ok(report)
    }
}

/// How far a track stands above what the text scores on other persons, in their deviations.
fn standing(caption: &[f32], looks: &[&Vec<f32>], bank: &[Vec<f32>]) -> f64 {
    let scores: Vec<f64> = bank.iter().map(|other| f64::from(dot(caption, other))).collect();
    let count = scores.len().max(1) as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let square = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
    let own = looks.iter().map(|look| f64::from(dot(caption, look))).sum::<f64>();
    (own / looks.len().max(1) as f64 - mean) / square.sqrt().max(1e-6)
}

fn json(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value)
        .map_err(|error| spotter_models::Error::internal("report", error).into())
}

fn embedder(weights: &Weights, config: &Config, device: Device) -> Result<NetEmbedder> {
    let parameters = Parameters::new(weights, config, device, |_| false)?;
    let net = Net::new(config, &parameters)?;
    let record = ModelRecord {
        kind: "adaptation".into(),
        name: String::new(),
        identity: String::new(),
        precision: "f32".into(),
        engine: "libtorch".into(),
        input: [config.height, config.width],
        trained_parameters: None,
    };
    Ok(NetEmbedder::new(net, device, record))
}

/// What `adapt.json` says.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// Hash of what the adaptation is made from.
    inputs: Digest,
}

/// Refuses a folder in which something else lies.
fn refuse_foreign(out: &Path) -> Result<()> {
    if out.join(MARK).is_file() {
        return Ok(());
    }
    let entries = match out.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(spotter_models::Error::io(out)(error).into()),
    };
    // What one leaves that was killed before it had begun.
    let is_ours = |name: &std::ffi::OsStr| name == status::FILE || name == run::LOCK;
    let other = entries.flatten().find(|entry| !is_ours(&entry.file_name()));
    match other {
        Some(other) => {
            let reason = format!(
                "holds {} and no adaptation; choose a new or an empty folder",
                other.file_name().to_string_lossy()
            );
            Err(Error::invalid(format!("--out {}", out.display()), reason))
        }
        None => Ok(()),
    }
}
