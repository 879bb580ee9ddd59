//! The site's other devices: which are online, and how many persons they see a day.
//!
//! A budget of false alarms is the site's. Each device takes the part that its tracks are of all tracks, so
//! that the parts add up to the whole whoever comes and goes.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Most devices of a site that are counted: far above a real one. The name is part of a topic that any
/// device with rights at the broker can make up.
const MAX_DEVICES: usize = 1024;
/// Largest status that is read, in bytes: cameras by name make it long.
const MAX_BYTES: usize = 64 * 1024;
/// Most tracks a day that are taken for meant.
const MAX_PER_DAY: f64 = 1e9;

/// Those that are online, with their tracks a day where they tell them.
#[derive(Default)]
pub(super) struct Neighbours {
    online: BTreeMap<String, Option<f64>>,
}

/// What counts here of a device's status.
#[derive(Deserialize)]
struct Told {
    state: String,
    tracks_per_day: Option<f64>,
}

impl Neighbours {
    /// Takes what a device, or the broker for it, says of the device. Whether that changes anything.
    pub(super) fn take(&mut self, device: &str, payload: &[u8]) -> bool {
        let told = match payload.len() <= MAX_BYTES {
            true => serde_json::from_slice::<Told>(payload).ok(),
            false => None,
        };
        let Some(told) = told.filter(|told| told.state == "online") else {
            // Also one that nobody can read: what does not speak takes no part of the budget.
            return self.online.remove(device).is_some();
        };
        let is_sound = |per_day: &f64| (0.0..=MAX_PER_DAY).contains(per_day);
        let per_day = told.tracks_per_day.filter(is_sound);
        if !self.online.contains_key(device) && self.online.len() >= MAX_DEVICES {
            metrics::counter!("spotter_devices_dropped_total").increment(1);
            return false;
        }
        self.online.insert(device.to_owned(), per_day) != Some(per_day)
    }

    /// Forgets the devices of which the broker keeps nothing any more. Whether there were any.
    pub(super) fn keep_only(&mut self, is_kept: impl Fn(&str) -> bool) -> bool {
        let before = self.online.len();
        self.online.retain(|device, _| is_kept(device));
        self.online.len() != before
    }

    /// Their tracks a day.
    pub(super) fn per_day(&self) -> Vec<Option<f64>> {
        self.online.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_online_counts_and_nobody_else() {
        let mut known = Neighbours::default();
        assert!(known.take("gate", br#"{"state":"online","tracks_per_day":300}"#));
        assert!(!known.take("gate", br#"{"state":"online","tracks_per_day":300}"#));
        assert!(known.take("dock", br#"{"state":"online","cameras":[]}"#));
        for nothing in ["", "{}", "garbage", r#"{"state":"offline"}"#, r#"{"state":"stopped"}"#] {
            assert!(!known.take("yard", nothing.as_bytes()), "{nothing}");
        }
        assert_eq!(known.per_day(), [None, Some(300.0)]);
        for absurd in ["-1", "1e12", "null"] {
            let status = format!(r#"{{"state":"online","tracks_per_day":{absurd}}}"#);
            known.take("gate", status.as_bytes());
            assert_eq!(known.per_day(), [None, None], "{absurd}");
        }
        assert!(known.take("gate", br#"{"state":"offline"}"#));
        assert!(known.keep_only(|device| device != "dock"));
        assert_eq!(known.per_day(), []);
        let long = format!(r#"{{"state":"online","x":"{}"}}"#, "x".repeat(MAX_BYTES));
        assert!(!known.take("gate", long.as_bytes()));
    }

    #[test]
    fn made_up_devices_take_no_memory() {
        let mut known = Neighbours::default();
        for number in 0..2000 {
            known.take(&format!("d{number}"), br#"{"state":"online"}"#);
        }
        assert_eq!(known.per_day().len(), MAX_DEVICES);
        assert!(known.take("d0", br#"{"state":"stopped"}"#));
        assert!(known.take("d1999", br#"{"state":"online"}"#), "there is room again");
    }
}
