//! The report as a page.

use std::path::Path;

use spotter_models::page::{Page, escape};

use super::{LeftOut, Report, gate::Compared};
use crate::error::Result;

/// Writes the page of an adaptation.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write(path: &Path, report: &Report) -> Result<()> {
    let title = match report.passed {
        true => format!("{} may serve", report.name),
        false => format!("{} was refused", report.name),
    };
    let mut page = Page::new(&title);
    let candidate = report.candidate.map_or("none".to_owned(), |generation| generation.to_string());
    page.html(&format!(
        "<p class=\"soft\">Candidate <code>{}</code> of <code>{}</code>, {}; {} steps in {:.0} s.</p>",
        escape(&candidate),
        report.parent,
        escape(&report.created_at),
        report.steps,
        report.seconds
    ));
    report.reasons.iter().for_each(|reason| page.note(&sentence(reason)));
    if let Some(site) = &report.site {
        page.heading("On persons of the site that it did not learn from");
        compared(&mut page, site, "now");
    }
    if let Some(reference) = &report.reference {
        page.heading("On the reference set");
        compared(&mut page, reference, "vendor's bundle");
    }
    verdicts(&mut page, report);
    Ok(page.write(path)?)
}

/// With a capital letter and a full stop.
fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

fn compared(page: &mut Page, compared: &Compared, before: &str) {
    let rows: Vec<Vec<String>> = compared
        .figures
        .iter()
        .map(|figure| {
            let interval = figure
                .difference
                .map_or(String::new(), |[low, high]| format!("{low:+.1} to {high:+.1}"));
            vec![
                figure.name.clone(),
                format!("{:.1} %", figure.before),
                format!("{:.1} %", figure.after),
                format!("{:+.1}", figure.gain()),
                interval,
            ]
        })
        .collect();
    page.table(
        &["figure", before, "candidate", "points", "95 % interval of the difference"],
        &rows,
    );
    page.paragraph(&format!(
        "{}: {} captions about {} persons, {} pictures.",
        compared.set, compared.captions, compared.persons, compared.pictures
    ));
}

fn verdicts(page: &mut Page, report: &Report) {
    let (counts, doubt) = (&report.verdicts, &report.doubt);
    page.heading("What staff said");
    page.paragraph(&format!(
        "{} verdicts with {} pictures. Learnt from: {} confirmed sightings about {} descriptions, and {} rejected \
         ones. Kept to judge by: {} descriptions.",
        counts.verdicts,
        counts.pictures,
        counts.confirmed,
        counts.texts,
        counts.rejected,
        counts.held_out
    ));
    if let Some(agreement) = doubt.agreement {
        page.paragraph(&format!(
            "A confirmed sighting has a higher score than a rejected one in {:.0} of 100 cases (50: the verdicts say \
             nothing that the model knows). About {:.0} of 100 verdicts are estimated to be wrong.",
            100.0 * agreement,
            100.0 * doubt.wrong
        ));
    }
    let rows: Vec<Vec<String>> = counts
        .left_out
        .iter()
        .map(|(why, count)| vec![words(*why).to_owned(), count.to_string()])
        .collect();
    if !rows.is_empty() {
        page.table(&["not used", "how many"], &rows);
    }
}

fn words(why: LeftOut) -> &'static str {
    match why {
        LeftOut::BrokenVerdict => "verdicts whose file is broken",
        LeftOut::UnusableText => "texts without words, or longer than any description",
        LeftOut::TooManyByOne => "older verdicts of somebody who gave very many",
        LeftOut::PoorPicture => "pictures that are small or poor",
        LeftOut::BrokenPicture => "pictures that cannot be read",
        LeftOut::SamePicture => "pictures that are there for another track already",
        LeftOut::TooManyAlike => "pictures beyond what one track or one text may have",
        LeftOut::Doubtful => "verdicts that are more likely wrong than right",
    }
}
