//! One line for each event, together with the path of its picture, which comes in a message of its
//! own right behind it.

use std::{collections::VecDeque, path::PathBuf};

use serde::Deserialize;

use crate::{
    clock::{Clock, SystemClock},
    cmd::alert,
    staff::{Fault, Heard, Said, sightings, times},
};

/// Looks after which a line is printed although its picture has not come.
const PATIENCE: u32 = 3;

/// What of a sighting tells its picture.
#[derive(Deserialize)]
struct Key {
    id: String,
    seq: u64,
    event: String,
}

/// A line that waits.
struct Line {
    text: String,
    /// The name of the picture that it waits for.
    picture: Option<String>,
    looks: u32,
}

/// Prints in the order in which things were told.
pub(super) struct Journal {
    folder: PathBuf,
    waiting: VecDeque<Line>,
    persons: u64,
}

impl Journal {
    /// Saves pictures into `folder`.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, waiting: VecDeque::new(), persons: 0 }
    }

    /// Sightings that began.
    pub(super) fn persons(&self) -> u64 {
        self.persons
    }

    /// Takes a message.
    ///
    /// # Errors
    /// [`Fault::Output`] where a line cannot be printed.
    pub(super) fn take(&mut self, heard: &Heard) -> Result<(), Fault> {
        match &heard.said {
            Said::Sighting(device) => {
                let now = times::now(&SystemClock::new() as &dyn Clock);
                let text = sightings::line(device, &heard.payload, &now);
                let key = serde_json::from_slice::<Key>(&heard.payload).ok();
                self.persons += u64::from(key.as_ref().is_some_and(|key| key.event == "new"));
                let picture = key
                    .filter(|key| key.event != "end")
                    .map(|key| format!("{}-{}-crop.jpg", key.id, key.seq));
                self.waiting.push_back(Line { text, picture, looks: 0 });
            }
            Said::Snapshot(_) => self.picture(heard),
            _ => {}
        }
        self.print()
    }

    fn picture(&mut self, heard: &Heard) {
        let Some(name) = sightings::picture_name(heard) else { return };
        let saved = sightings::save(&self.folder, &name, &heard.payload);
        let of = |line: &&mut Line| line.picture.as_deref() == Some(&name);
        let Some(line) = self.waiting.iter_mut().find(of) else { return };
        line.picture = None;
        line.text += &match saved {
            Ok(path) => format!("  {}", path.display()),
            Err(error) => format!("  its picture is not saved: {error}"),
        };
    }

    /// Gives up waiting for pictures that do not come: those that the disk or the broker dropped.
    ///
    /// # Errors
    /// [`Fault::Output`] where a line cannot be printed.
    pub(super) fn look(&mut self) -> Result<(), Fault> {
        for line in &mut self.waiting {
            line.looks += 1;
            if line.looks >= PATIENCE && line.picture.take().is_some() {
                line.text += "  without a picture";
            }
        }
        self.print()
    }

    /// Prints what still waits.
    ///
    /// # Errors
    /// [`Fault::Output`] where a line cannot be printed.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.waiting.iter_mut().for_each(|line| line.picture = None);
        self.print()
    }

    fn print(&mut self) -> Result<(), Fault> {
        while self.waiting.front().is_some_and(|line| line.picture.is_none()) {
            let Some(line) = self.waiting.pop_front() else { break };
            alert::print(&format!("{}\n", line.text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JDZ6V3Q4M5N6P7R8S9T0V1W2";

    fn sighting(event: &str, seq: u64) -> Heard {
        let payload = format!(r#"{{"id":"{ID}","seq":{seq},"event":"{event}","alert":"a"}}"#);
        Heard {
            said: Said::Sighting("box".into()),
            payload: payload.into_bytes(),
            retained: false,
            properties: Vec::new(),
        }
    }

    fn picture(seq: u64) -> Heard {
        let properties = [("sighting", ID), ("seq", &seq.to_string()), ("kind", "crop")];
        Heard {
            said: Said::Snapshot("box".into()),
            payload: b"jpeg".to_vec(),
            retained: false,
            properties: properties.map(|(key, value)| (key.into(), value.into())).into(),
        }
    }

    #[test]
    fn lines_wait_for_their_pictures_in_order_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path().to_path_buf());
        journal.take(&sighting("new", 1)).unwrap();
        journal.take(&sighting("end", 2)).unwrap();
        assert_eq!(journal.waiting.len(), 2, "the end stays behind its beginning");
        journal.take(&picture(1)).unwrap();
        assert!(journal.waiting.is_empty());
        assert!(folder.path().join(format!("{ID}-1-crop.jpg")).is_file());
        journal.take(&sighting("new", 3)).unwrap();
        for _ in 0..PATIENCE {
            assert_eq!(journal.waiting.len(), 1);
            journal.look().unwrap();
        }
        assert!(journal.waiting.is_empty());
        assert_eq!(journal.persons(), 2);
    }

    #[test]
    fn what_is_no_sighting_is_printed_and_not_counted() {
        let mut journal = Journal::new(PathBuf::from("/nowhere"));
        let rubbish = Heard { payload: b"[".to_vec(), ..sighting("new", 1) };
        journal.take(&rubbish).unwrap();
        journal.take(&picture(9)).unwrap();
        assert!(journal.waiting.is_empty() && journal.persons() == 0);
    }
}
