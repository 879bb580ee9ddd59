//! From the verdicts of staff to pictures with captions.
//!
//! Whom a text describes is one person here: two tracks that were confirmed for the same text both fit it, whoever
//! they are. Pictures of one track, and tracks that share a text, are either all learnt from or all kept to
//! judge by.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use serde::{Deserialize, Serialize};
use spotter_models::{
    Digest,
    feedback::{Feedback, Judgement, Verdict},
    tokenize::MAX_TEXT_BYTES,
};

use crate::{
    bounded,
    dataset::{Dataset, Record, Split, is_in_share},
    error::Result,
};

/// Largest picture of a verdict that is read, in bytes.
const MAX_PICTURE_BYTES: u64 = 8 << 20;

/// What may be learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Least height of a picture in pixels.
    pub min_height: u32,
    /// Least quality of a picture, 0 to 1.
    pub min_quality: f32,
    /// Most pictures of a track.
    pub per_track: usize,
    /// Most pictures for one text.
    pub per_text: usize,
    /// Most verdicts of one member of staff, the newest.
    pub per_author: usize,
    /// Share of the persons that are kept to judge by.
    pub held_out: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_height: 48,
            min_quality: 0.15,
            per_track: 6,
            per_text: 24,
            per_author: 4000,
            held_out: 0.2,
        }
    }
}

/// Why something that staff said is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// The verdict's file is broken.
    BrokenVerdict,
    /// The text is empty or longer than any description.
    UnusableText,
    /// More than one member of staff may say.
    TooManyByOne,
    /// A picture is small, or a poor look.
    PoorPicture,
    /// A picture cannot be read.
    BrokenPicture,
    /// The same picture again.
    SamePicture,
    /// More pictures than one track or one text may have.
    TooManyAlike,
    /// What the running model and the other verdicts say makes it likely that the verdict is wrong.
    Doubtful,
}

/// A sighting that staff judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub sighting: String,
    /// What the person was described as.
    pub text: String,
    /// Whether the person fits.
    pub fits: bool,
    /// Number of the text.
    about: i64,
    /// The track.
    track: String,
    /// Whether it is kept to judge by.
    pub held_out: bool,
    /// Paths of its pictures below the feedback's folder.
    pub pictures: Vec<String>,
}

impl Judged {
    fn text_name(&self) -> String {
        format!("text {}", self.about)
    }

    fn track_name(&self) -> String {
        format!("track {}", self.track)
    }
}

/// Counts of what staff said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Verdicts on disk.
    pub verdicts: usize,
    /// Pairs that fit, to learn from.
    pub confirmed: usize,
    /// Pairs that do not, to learn from.
    pub rejected: usize,
    /// Texts that are learnt from.
    pub texts: usize,
    /// Texts that are kept to judge by.
    pub held_out: usize,
    /// Pictures in all.
    pub pictures: usize,
    /// What is not used.
    pub left_out: BTreeMap<LeftOut, usize>,
}

/// What staff said, ready to be learnt from.
#[derive(Debug)]
pub struct Site {
    feedback: Feedback,
    /// Sightings, the oldest first.
    pub judged: Vec<Judged>,
    /// Counts.
    pub counts: Counts,
}

impl Site {
    /// Reads the folder of the daemon's feedback.
    ///
    /// # Errors
    /// Where it is none or cannot be listed. Single verdicts that are broken are counted.
    pub fn read(folder: &Path, limits: &Limits) -> Result<Self> {
        let feedback = Feedback::open(folder)?;
        let (verdicts, broken) = feedback.all()?;
        let mut site = Self { feedback, judged: vec![], counts: Counts::default() };
        site.counts.verdicts = verdicts.len() + broken.len();
        site.leave_out(LeftOut::BrokenVerdict, broken.len());
        let verdicts = site.newest_by_author(verdicts, limits.per_author);
        let mut texts: HashMap<String, i64> = HashMap::new();
        let mut chosen = Choice::default();
        // The newest first: where there is too much of something, the oldest is left out.
        for verdict in verdicts.iter().rev() {
            let claims = claims(verdict);
            let unusable = claims.iter().filter(|(text, _)| !is_usable(text)).count();
            site.leave_out(LeftOut::UnusableText, unusable);
            let usable: Vec<_> = claims.into_iter().filter(|(text, _)| is_usable(text)).collect();
            if usable.is_empty() {
                continue;
            }
            let track = format!("{}/{}", verdict.camera, verdict.track);
            let pictures = site.pictures(verdict, &track, limits, &mut chosen);
            for (text, fits) in usable {
                let next = texts.len() as i64;
                let about = *texts.entry(normal(&text)).or_insert(next);
                let room = chosen.room(about, fits, limits);
                let kept: Vec<String> = pictures.iter().take(room).cloned().collect();
                chosen.took(about, fits, kept.len());
                site.leave_out(LeftOut::TooManyAlike, pictures.len() - kept.len());
                if !kept.is_empty() {
                    site.judged.push(Judged {
                        sighting: verdict.sighting.clone(),
                        text,
                        fits,
                        about,
                        track: track.clone(),
                        held_out: false,
                        pictures: kept,
                    });
                }
            }
        }
        site.judged.reverse();
        site.hold_out(limits.held_out);
        site.count();
        Ok(site)
    }

    fn leave_out(&mut self, why: LeftOut, count: usize) {
        if count > 0 {
            *self.counts.left_out.entry(why).or_default() += count;
        }
    }

    fn newest_by_author(&mut self, verdicts: Vec<Verdict>, most: usize) -> Vec<Verdict> {
        let mut said: HashMap<String, usize> = HashMap::new();
        let all = verdicts.len();
        let mut kept: Vec<Verdict> = verdicts
            .into_iter()
            .rev()
            .filter(|verdict| {
                let count = said.entry(verdict.by.clone()).or_default();
                *count += 1;
                *count <= most
            })
            .collect();
        kept.reverse();
        self.leave_out(LeftOut::TooManyByOne, all - kept.len());
        kept
    }

    /// Paths of a verdict's pictures that are good enough and were not seen before.
    fn pictures(
        &mut self,
        verdict: &Verdict,
        track: &str,
        limits: &Limits,
        chosen: &mut Choice,
    ) -> Vec<String> {
        let mut paths = Vec::new();
        for picture in &verdict.pictures {
            if picture.size[1] < limits.min_height || picture.quality < limits.min_quality {
                self.leave_out(LeftOut::PoorPicture, 1);
                continue;
            }
            let path = self.feedback.path_of(verdict, picture);
            let Ok(bytes) = bounded::read(&path, MAX_PICTURE_BYTES) else {
                self.leave_out(LeftOut::BrokenPicture, 1);
                continue;
            };
            let (digest, count) = (Digest::of(&bytes), chosen.of_track(track));
            // A track that two alerts told of has its pictures in both verdicts.
            match chosen.owner(digest, track) {
                false => self.leave_out(LeftOut::SamePicture, 1),
                true if count >= limits.per_track && !chosen.has(digest) => {
                    self.leave_out(LeftOut::TooManyAlike, 1);
                }
                true => {
                    chosen.take(digest, track);
                    paths.push(format!("{}/{}", verdict.sighting, picture.file));
                }
            }
        }
        paths
    }

    /// Keeps some persons to judge by: those of a text and of the tracks that were confirmed for it together,
    /// always the same ones, by the name of the oldest sighting. A rejected pair that has one of them is not
    /// learnt from either.
    fn hold_out(&mut self, share: f64) {
        let mut groups = Groups::default();
        for judged in self.judged.iter().filter(|judged| judged.fits) {
            groups.join(&judged.text_name(), &judged.track_name());
        }
        let mut oldest: HashMap<String, &str> = HashMap::new();
        for judged in &self.judged {
            for name in [judged.text_name(), judged.track_name()] {
                let first = oldest.entry(groups.of(&name)).or_insert(&judged.sighting);
                *first = (*first).min(&judged.sighting);
            }
        }
        let held: HashSet<String> = oldest
            .into_iter()
            .filter(|(_, sighting)| is_in_share(number(sighting), share))
            .map(|(group, _)| group)
            .collect();
        for judged in &mut self.judged {
            let names = [judged.text_name(), judged.track_name()];
            judged.held_out = names.iter().any(|name| held.contains(&groups.of(name)));
        }
    }

    /// Leaves out sightings whose verdict is doubtful, by their places in [`Site::judged`].
    pub fn doubt(&mut self, doubtful: &BTreeSet<usize>) {
        let mut index = 0;
        self.judged.retain(|_| {
            index += 1;
            !doubtful.contains(&(index - 1))
        });
        self.leave_out(LeftOut::Doubtful, doubtful.len());
        self.count();
    }

    fn count(&mut self) {
        let learnt = || self.judged.iter().filter(|judged| !judged.held_out);
        let texts = |held: bool| {
            let fit = self.judged.iter().filter(|judged| judged.held_out == held && judged.fits);
            fit.map(|judged| judged.about).collect::<BTreeSet<_>>().len()
        };
        let (confirmed, rejected) = (
            learnt().filter(|judged| judged.fits).count(),
            learnt().filter(|judged| !judged.fits).count(),
        );
        let (learnt_texts, held_out) = (texts(false), texts(true));
        let pictures: HashSet<&String> = self.judged.iter().flat_map(|j| &j.pictures).collect();
        let pictures = pictures.len();
        let counts = &mut self.counts;
        (counts.confirmed, counts.rejected, counts.pictures) = (confirmed, rejected, pictures);
        (counts.texts, counts.held_out) = (learnt_texts, held_out);
    }

    /// Its pictures with captions, persons numbered downwards from -1. Of what is held out, only pairs that
    /// fit.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn dataset(&self) -> Result<Dataset> {
        let person = |about: i64| -1 - about;
        let texts = self.judged.iter().map(|judged| judged.about).max().unwrap_or(-1) + 1;
        // Whom a track shows that was rejected: whom it was confirmed as, or a person of its own.
        let mut shown: HashMap<&str, i64> = HashMap::new();
        for judged in self.judged.iter().filter(|judged| judged.fits) {
            shown.entry(&judged.track).or_insert(person(judged.about));
        }
        for judged in &self.judged {
            let next = person(texts) - shown.len() as i64;
            shown.entry(&judged.track).or_insert(next);
        }
        let mut records = Vec::new();
        for judged in &self.judged {
            let split = if judged.held_out { Split::Val } else { Split::Train };
            let about = person(judged.about);
            let meant = match (judged.fits, judged.held_out) {
                (true, _) => None,
                (false, true) => continue,
                (false, false) => Some(about),
            };
            let of_track = shown.get(judged.track.as_str()).copied().unwrap_or(about);
            let person = if judged.fits { about } else { of_track };
            if !judged.fits && person == about {
                // Another verdict says that it fits.
                continue;
            }
            records.extend(judged.pictures.iter().map(|file| Record {
                person,
                file: file.clone(),
                split,
                captions: vec![judged.text.clone()],
                meant,
            }));
        }
        Dataset::of_records(self.feedback.folder(), "feedback".into(), records)
    }

    /// The sightings that are learnt from.
    pub fn learnt(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| !judged.held_out)
    }

    /// Its pictures alone, one record for each in the order of [`Site::judged`].
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn dataset_of_pictures(&self) -> Result<Dataset> {
        let files = self.judged.iter().flat_map(|judged| &judged.pictures);
        let record = |file: &String| Record {
            person: 0,
            file: file.clone(),
            split: Split::Train,
            captions: vec![],
            meant: None,
        };
        let records = files.map(record).collect();
        Dataset::of_records(self.feedback.folder(), "feedback".into(), records)
    }

    /// The folder of the verdicts.
    pub fn folder(&self) -> &Path {
        self.feedback.folder()
    }
}

/// What a verdict says: a text, and whether the person fits it.
fn claims(verdict: &Verdict) -> Vec<(String, bool)> {
    let fits = verdict.verdict == Judgement::Confirmed;
    match (&verdict.corrected, fits) {
        (None, fits) => vec![(verdict.text.clone(), fits)],
        (Some(better), true) => vec![(better.clone(), true)],
        (Some(better), false) => vec![(verdict.text.clone(), false), (better.clone(), true)],
    }
}

fn is_usable(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric) && text.len() <= MAX_TEXT_BYTES
}

/// Texts that differ only in case, spaces or full stops are one.
fn normal(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// A number that follows from a name alone.
fn number(name: &str) -> i64 {
    let digest = Digest::of(name.as_bytes());
    let (eights, _) = digest.bytes().as_chunks::<8>();
    eights.first().map_or(0, |eight| i64::from_le_bytes(*eight))
}

/// Pictures that were taken so far.
#[derive(Default)]
struct Choice {
    owners: HashMap<Digest, String>,
    by_track: HashMap<String, usize>,
    by_text: HashMap<(i64, bool), usize>,
}

impl Choice {
    /// Whether a picture is this track's, or nobody's so far.
    fn owner(&self, digest: Digest, track: &str) -> bool {
        self.owners.get(&digest).is_none_or(|owner| owner == track)
    }

    fn has(&self, digest: Digest) -> bool {
        self.owners.contains_key(&digest)
    }

    fn of_track(&self, track: &str) -> usize {
        self.by_track.get(track).copied().unwrap_or(0)
    }

    fn take(&mut self, digest: Digest, track: &str) {
        if self.owners.insert(digest, track.to_owned()).is_none() {
            *self.by_track.entry(track.to_owned()).or_default() += 1;
        }
    }

    fn room(&self, about: i64, fits: bool, limits: &Limits) -> usize {
        limits.per_text.saturating_sub(self.by_text.get(&(about, fits)).copied().unwrap_or(0))
    }

    fn took(&mut self, about: i64, fits: bool, count: usize) {
        *self.by_text.entry((about, fits)).or_default() += count;
    }
}

/// Which names belong together.
#[derive(Default)]
struct Groups {
    parents: HashMap<String, String>,
}

impl Groups {
    fn of(&mut self, name: &str) -> String {
        let mut top = name.to_owned();
        while let Some(parent) = self.parents.get(&top).filter(|parent| **parent != top) {
            top = parent.clone();
        }
        self.parents.insert(name.to_owned(), top.clone());
        top
    }

    fn join(&mut self, a: &str, b: &str) {
        let (a, b) = (self.of(a), self.of(b));
        self.parents.insert(a, b.clone());
        self.parents.insert(b.clone(), b);
    }
}
