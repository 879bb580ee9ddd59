//! `spotterd alert lint`: reads a description as a device would, without one.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::json;
use spotter_models::{bundle::Bundle, tokenize::Tokenizer, towers, vocabulary::Vocabulary};

use crate::{
    alert::{
        Policy, Refusal, Rules, Spec,
        lint::{self, Finding, Severity},
        phrases::phrases,
        schema::Message,
    },
    config::Config,
    error::Error,
    staff::Fault,
};

/// Read a description as a device would, and say what is wrong with it
///
/// Needs no broker and no device. With a bundle it knows which words the model has met in training.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the person looks like
    text: String,
    /// What the person does not have; give the option again for more
    #[arg(long, value_name = "THING")]
    without: Vec<String>,
    /// The bundle that the devices run, or a store of them
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// A daemon's configuration, whose section policy is applied
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Example:
  spotterd alert lint \"woman in a red coat, no hat\" --bundle site

Exit status: 0 it would be armed, perhaps with warnings; 1 it would be refused; 2 something was typed
wrong.";

/// What is found: severity, code, message.
struct Report(Vec<(Severity, serde_json::Value, String)>);

impl Report {
    fn find(&mut self, finding: Finding) {
        self.0.push((finding.severity, json!(finding.code), finding.message));
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.0.push((Severity::Refused, json!(refusal.code), refusal.reason));
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Fault> {
    let bundle = args.bundle.as_deref().map(Bundle::open).transpose().map_err(Error::from)?;
    let vocabulary =
        bundle.as_ref().map(Vocabulary::of).transpose().map_err(Error::from)?.flatten();
    let policy = match &args.config {
        Some(path) => Config::load(path)?.policy,
        None => Policy::default(),
    };
    // Only what concerns the text: who asks, why and until when is said elsewhere.
    let policy = Policy { required: Default::default(), second_person: false, ..policy };
    let rules = Rules::new(policy)?.with_vocabulary(vocabulary.map(Arc::new));
    let mut report = Report(Vec::new());
    match spec(args) {
        Ok(spec) => {
            if let Err(refusal) = rules.admit(&spec) {
                report.refuse(refusal);
            }
            rules.lint(&spec).into_iter().for_each(|finding| report.find(finding));
            let limit = bundle
                .as_ref()
                .map_or_else(towers::Config::vit_b16, |bundle| bundle.manifest().config.clone());
            match lost(&spec, &limit) {
                Ok(Some(words)) => report.find(lint::lost(&words)),
                Ok(None) => {}
                Err(error) => report.refuse(Refusal::new(
                    crate::alert::Code::Unreadable,
                    format!("cannot be looked for: {error}"),
                )),
            }
        }
        Err(refusal) => report.refuse(refusal),
    }
    report.0.sort_by_key(|(severity, ..)| *severity);
    let is_refused = report.0.iter().any(|(severity, ..)| *severity == Severity::Refused);
    if args.json {
        super::print_json(&in_json(args, &report, is_refused))?;
    } else {
        super::print(&in_words(args, &report))?;
    }
    Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The alert as a device reads it from a message.
fn spec(args: &Args) -> Result<Spec, Refusal> {
    let message = json!({"schema": 1, "revision": 0, "text": args.text, "without": args.without,
        "expires_at": "9999-01-01T00:00:00Z"});
    match Message::parse(message.to_string().as_bytes()) {
        Message::Alert { spec, .. } => Ok(*spec),
        Message::Unreadable { refusal, .. } => Err(refusal),
        _ => Err(Refusal::new(crate::alert::Code::Unreadable, "is no description")),
    }
}

/// The words beyond the model's limit.
fn lost(spec: &Spec, limit: &towers::Config) -> spotter_models::Result<Option<String>> {
    let input = Tokenizer::clip()?.encode(&spec.text)?.fit(limit)?;
    Ok(input.lost().map(str::to_owned))
}

fn in_json(args: &Args, report: &Report, is_refused: bool) -> serde_json::Value {
    let findings: Vec<serde_json::Value> = report
        .0
        .iter()
        .map(|(severity, code, message)| {
            json!({"code": code, "severity": severity, "message": message})
        })
        .collect();
    json!({"text": args.text, "without": args.without, "refused": is_refused,
        "findings": findings, "phrases": phrases(&args.text)})
}

fn in_words(args: &Args, report: &Report) -> String {
    let mut text = String::new();
    for (severity, _, message) in &report.0 {
        let severity = match severity {
            Severity::Refused => "refused",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        };
        text += &format!("{severity}: {message}\n");
    }
    if report.0.is_empty() {
        text += "nothing to note\n";
    }
    let parts = phrases(&args.text);
    if !parts.is_empty() && report.0.iter().all(|(severity, ..)| *severity != Severity::Refused) {
        text += &format!("a match is explained by: {}\n", parts.join(", "));
    }
    text
}
