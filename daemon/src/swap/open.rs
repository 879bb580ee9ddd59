//! A bundle opened with all that serves by it.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use spotter_models::{
    Generation,
    bundle::{Bundle, Store},
    vocabulary::Vocabulary,
};

use super::{Refused, recall};
use crate::{
    alert::reader::TowerReader,
    clock::Stop,
    config::Bundles,
    desk::{Model, Past, Texts},
    embed::{self, Embedder},
    engine::Engine,
    error::Result,
    gallery::Gallery,
    health, keep,
    lens::ModelLens,
    metrics,
    score::{Choice, History},
};

/// What a bundle is opened with.
#[derive(Clone)]
pub struct Opener {
    /// What runs the models.
    pub engine: Engine,
    /// Whom a bundle must be signed by.
    pub bundles: Bundles,
    /// The bundle's folder, or a store of them.
    pub root: PathBuf,
    /// What decides on scores.
    pub policy: Choice,
    /// The detector that finds persons in pictures that staff send.
    pub detector: String,
    /// Who passed.
    pub history: Arc<History>,
    /// Who is kept, where anybody is.
    pub gallery: Option<Arc<Gallery>>,
}

/// A bundle that computes here what it should.
pub struct Opened {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// The words of its training captions, where it has them.
    pub vocabulary: Option<Arc<Vocabulary>>,
    /// Its vision tower, which has run once.
    pub embedder: Embedder,
    /// What the desk reads and judges by.
    pub model: Model,
}

impl Opener {
    /// The store, where there is one.
    pub(super) fn store(&self) -> Result<Store> {
        self.bundles.store(&self.root)
    }

    /// Opens what is current at a start. Where a store's current generation cannot serve, the one that was current
    /// before is made current again, and why is told.
    ///
    /// # Errors
    /// Where none can serve: what is wrong with the current one.
    pub fn first(&self, now: Timestamp) -> Result<(Opened, Option<Refused>)> {
        let wrong = match self.current() {
            Ok(opened) => return Ok((opened, None)),
            Err(error) => error,
        };
        let store = Store::new(&self.root);
        let Ok(Some(current)) = store.current() else { return Err(wrong) };
        for earlier in store.earlier()? {
            tracing::error!(generation = %current, error = %wrong, "The current bundle cannot serve.");
            match self.generation(earlier) {
                Ok(opened) => {
                    if let Err(error) = store.return_from(current, earlier) {
                        tracing::error!(%error, "The store names a bundle that cannot serve; tried again.");
                    }
                    tracing::error!(generation = %earlier, "The bundle that was current before serves.");
                    metrics::refused();
                    return Ok((opened, Some(Refused::new(current, &wrong, now))));
                }
                Err(error) => {
                    tracing::error!(generation = %earlier, %error, "Nor can the one before it.");
                }
            }
        }
        Err(wrong)
    }

    /// What a bundle reads and judges by that serves no more, for who searches among those whom it saw.
    ///
    /// # Errors
    /// Where it is not installed any more, or cannot be opened.
    pub fn past(&self, generation: Generation) -> Result<Past> {
        let bundle = self.store()?.open(generation)?;
        let text = embed::text_tower(&self.engine, &bundle)?;
        let history = Arc::new(History::default());
        let remembered = self.gallery.as_ref().map(|gallery| keep::remembered(gallery, generation));
        remembered.into_iter().flatten().for_each(|(_, passed)| history.recall(passed));
        let policy = self.policy.open(&bundle, history)?;
        Ok(Past { reader: Box::new(TowerReader::new(text)?), policy })
    }

    fn current(&self) -> Result<Opened> {
        let (bundle, signed) = self.bundles.open(&self.root)?;
        self.open(bundle, &signed)
    }

    fn generation(&self, generation: Generation) -> Result<Opened> {
        let bundle = self.store()?.open(generation)?;
        let signed = self.bundles.signer(&bundle)?;
        self.open(bundle, &signed)
    }

    /// Opens a generation of the store beside the one that serves: reads the texts of alerts ahead, and has it look at
    /// the pictures of those who passed, so that thresholds rest on the site from the first crop on.
    ///
    /// # Errors
    /// Why it cannot serve.
    pub(super) fn beside(
        &self,
        generation: Generation,
        (texts, serving, stop): (&Texts, Generation, &Stop),
    ) -> Result<Opened> {
        let mut opened = self.generation(generation)?;
        texts.read_ahead(opened.model.reader.as_mut(), stop)?;
        if let Some(gallery) = &self.gallery {
            recall::all(gallery, &mut opened.embedder, (serving, &self.history), stop);
            opened.model.policy = self.policy.open(&opened.bundle, self.history.clone())?;
        }
        Ok(opened)
    }

    fn open(&self, bundle: Bundle, signed: &str) -> Result<Opened> {
        let generation = bundle.generation();
        tracing::info!(%generation, signed, "The bundle is open.");
        let bundle = Arc::new(bundle);
        let (vision, text) = self.engine.towers(&bundle)?;
        let mut embedder = Embedder::new(vision)?;
        health::run_once(&mut embedder)?;
        let lens = ModelLens::new(self.engine.clone(), bundle.clone(), self.detector.clone());
        let model = Model {
            reader: Box::new(TowerReader::new(text)?),
            lens: Box::new(lens),
            policy: self.policy.open(&bundle, self.history.clone())?,
        };
        let vocabulary = Vocabulary::of(&bundle)?.map(Arc::new);
        Ok(Opened { bundle, vocabulary, embedder, model })
    }
}
