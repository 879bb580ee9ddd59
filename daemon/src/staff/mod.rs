//! What staff do from a desk: say whom to look for, see what became of it, see who was found.
//!
//! A [`Session`] speaks to the site's broker for the length of one command, [`Site`] names the
//! topics as staff use them, a [`Board`] holds what the broker told, a [`Draft`] becomes an alert,
//! [`times`] and [`hours`] read what a person types. Nothing here runs in the daemon, and nothing
//! prints: the commands do.

pub mod ask;
mod board;
mod draft;
mod fault;
pub mod hours;
mod name;
mod session;
pub mod sightings;
mod site;
pub mod times;
mod watching;

pub use board::{Answer, Board, Device, Wanted};
pub use draft::{Draft, withdrawn};
pub use fault::Fault;
pub use name::id_of;
pub use session::{Desk, Heard, Session};
pub use site::{Said, Site};
pub use watching::{Event, Pictures, Watching};

/// What somebody else wrote, fit for a terminal: control characters could repaint it, bidirectional
/// ones show another text than is there. Cut to `most` characters.
pub fn shown(text: &str, most: usize) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    let mut clean: String =
        text.chars().take(most).map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_repaint_the_terminal() {
        assert_eq!(shown("red\u{1b}[2Jcoat\r\n", 40), "red\u{fffd}[2Jcoat\u{fffd}\u{fffd}");
        assert_eq!(shown("red \u{202e}taoc", 40), "red \u{fffd}taoc");
        assert_eq!(shown("weiß", 4), "weiß");
        assert_eq!(shown("weißer", 4), "wei…");
    }
}
