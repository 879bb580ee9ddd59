//! Names that staff choose and that become parts of topics, rows and logs.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Longest name, in characters.
pub const MAX_NAME: usize = 64;

/// A name that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} must be 1 to {MAX_NAME} of a-z, 0-9, '_' and '-'")]
pub struct NameError {
    what: &'static str,
    /// The name, cut to a length that a log line can carry.
    name: String,
}

/// Whether `name` can stand in a topic, a file name and a log without being quoted.
fn allowed(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain)
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// # Errors
            /// [`NameError`] where the name has other characters or a wrong length.
            pub fn new(name: &str) -> Result<Self, NameError> {
                if allowed(name) {
                    return Ok(Self(name.into()));
                }
                Err(NameError { what: $what, name: name.chars().take(MAX_NAME).collect() })
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.to_string()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An alert's name, the last level of its topic: 1 to 64 of `a-z 0-9 _ -`.
    AlertId,
    "alert id"
);
name!(
    /// A device's name, as in its topics: 1 to 64 of `a-z 0-9 _ -`.
    DeviceName,
    "device"
);
name!(
    /// The name of a zone, as the configuration defines it: 1 to 64 of `a-z 0-9 _ -`.
    ZoneName,
    "zone"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_topic_are_refused() {
        assert_eq!(AlertId::new("red-coat_2").unwrap().as_str(), "red-coat_2");
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "a/b", "+", "#", "A", "ä", "..", "a b", "a\n", long.as_str()] {
            assert!(AlertId::new(name).is_err(), "{name:?}");
        }
        assert!(AlertId::new(&"x".repeat(9000)).unwrap_err().to_string().len() < 200);
    }
}
