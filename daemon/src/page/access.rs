//! Who may see the page: a token from a file, compared in constant time, and few wrong tries.

use std::{
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    clock::{Clock, Mono},
    error::{Error, Result},
};

/// The cookie of a login.
const COOKIE: &str = "spotter-page";
/// How long a browser keeps it: a shift.
const COOKIE_SECONDS: u32 = 12 * 3600;
/// Shortest token: 22 characters of base 64 are 128 bits.
const MIN_TOKEN: usize = 22;
/// Longest token, by the size of the form that brings it.
const MAX_TOKEN: usize = 256;
/// Wrong tries that are free.
const TRIES: u32 = 5;
/// For every further one.
const TRY_EVERY: Duration = Duration::from_secs(10);

/// What is typed into the form. Its characters mean themselves in a form's encoding, in a header
/// and in a cookie, so nothing is ever decoded before it is compared.
pub(super) struct Token(String);

impl Token {
    /// # Errors
    /// [`Error::Io`], or [`Error::Config`] where it holds anything but a token.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        let mode = file.metadata().map_err(Error::io(path))?.permissions().mode();
        if mode & 0o007 != 0 {
            let path = path.display();
            tracing::warn!(%path, "Every user can read the page's token; run `chmod 600` on it.");
        }
        // Two more: a line's end.
        file.take(MAX_TOKEN as u64 + 3).read_to_string(&mut text).map_err(Error::io(path))?;
        Self::new(text.trim_end_matches(['\r', '\n'])).ok_or_else(|| {
            let reason = format!(
                "must hold one line of {MIN_TOKEN} to {MAX_TOKEN} of A-Z, a-z, 0-9, '_' and '-'; \
                 `openssl rand -hex 32` makes one"
            );
            Error::config(format!("page.token_file {}", path.display()), reason)
        })
    }

    fn new(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let fits = (MIN_TOKEN..=MAX_TOKEN).contains(&text.len()) && text.chars().all(plain);
        fits.then(|| Self(text.to_owned()))
    }
}

/// What a request showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may see everything.
    Welcome,
    /// Nothing, or a cookie that is not valid any more.
    Unknown,
    /// A wrong token.
    Wrong,
    /// Not looked at: too many were wrong.
    TooMany {
        /// Until the next one is looked at.
        wait: Duration,
    },
}

/// Decides who may see the page.
pub(super) struct Access {
    token: Token,
    session: String,
    clock: Arc<dyn Clock>,
    tries: Mutex<Tries>,
}

impl Access {
    pub(super) fn new(token: Token, clock: Arc<dyn Clock>) -> Self {
        // Follows from the token, so that a restart logs nobody out and a stolen cookie does not
        // give the token away.
        let digest = Sha256::new().chain_update(b"spotter page session\0").chain_update(&token.0);
        let session = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let tries = Mutex::new(Tries { left: TRIES, since: clock.now() });
        Self { token, session, clock, tries }
    }

    /// By the cookie of an earlier login or an `Authorization` header.
    pub(super) fn of_request(&self, headers: &HeaderMap) -> Verdict {
        let cookies = headers.get_all(header::COOKIE);
        let cookies = cookies.iter().filter_map(|value| value.to_str().ok());
        let mut sessions = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        // No limit: nobody guesses 256 bits, and one bad cookie must not lock out the others.
        if sessions.any(|session| same(session, &self.session)) {
            return Verdict::Welcome;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match bearer.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) => self.of_token(token),
            None => Verdict::Unknown,
        }
    }

    /// By the form's content, `token=…`.
    pub(super) fn of_form(&self, form: &[u8]) -> Verdict {
        let form = std::str::from_utf8(form).unwrap_or_default();
        self.of_token(form.strip_prefix("token=").unwrap_or_default())
    }

    fn of_token(&self, token: &str) -> Verdict {
        let now = self.clock.now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = tries.wait(now) {
            return Verdict::TooMany { wait };
        }
        if same(token, &self.token.0) {
            return Verdict::Welcome;
        }
        tries.fail(now);
        tracing::warn!(left = tries.left, "Somebody gave the page a wrong token.");
        Verdict::Wrong
    }

    /// The cookie of a login.
    pub(super) fn cookie(&self) -> Option<HeaderValue> {
        let session = &self.session;
        HeaderValue::from_str(&format!(
            "{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_SECONDS}"
        ))
        .ok()
    }
}

/// The cookie that ends a login.
pub(super) fn no_cookie() -> Option<HeaderValue> {
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    HeaderValue::from_str(&cookie).ok()
}

/// Tells the lengths apart early; those are no secret.
fn same(given: &str, wanted: &str) -> bool {
    given.as_bytes().ct_eq(wanted.as_bytes()).into()
}

/// Wrong tries that are left, of everybody together: on one machine there is one address.
struct Tries {
    left: u32,
    /// Up to when the returned ones were counted.
    since: Mono,
}

impl Tries {
    /// How long until the next try counts; `None` where one is left.
    fn wait(&mut self, now: Mono) -> Option<Duration> {
        while self.left < TRIES && now.since(self.since) >= TRY_EVERY {
            self.left += 1;
            self.since = self.since + TRY_EVERY;
        }
        (self.left == 0).then(|| TRY_EVERY.saturating_sub(now.since(self.since)))
    }

    fn fail(&mut self, now: Mono) {
        if self.left == TRIES {
            self.since = now;
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn wrong_tries_come_back_one_by_one() {
        let clock = Arc::new(ManualClock::default());
        let access = Access::new(Token::new(TOKEN).unwrap(), clock.clone());
        let right = format!("token={TOKEN}");
        for _ in 0..TRIES {
            assert_eq!(access.of_form(b"token=wrong"), Verdict::Wrong);
        }
        assert_eq!(access.of_form(right.as_bytes()), Verdict::TooMany { wait: TRY_EVERY });
        clock.advance(TRY_EVERY - Duration::from_secs(1));
        let wait = Duration::from_secs(1);
        assert_eq!(access.of_form(right.as_bytes()), Verdict::TooMany { wait });
        clock.advance(wait);
        assert_eq!(access.of_form(right.as_bytes()), Verdict::Welcome);
        assert_eq!(access.of_form(b"token=wrong"), Verdict::Wrong);
        assert!(matches!(access.of_form(b"token=wrong"), Verdict::TooMany { .. }));
        // However long nobody came: never more than the free ones.
        clock.advance(Duration::from_secs(1 << 30));
        let wrong = (0..100).filter(|_| access.of_form(b"\xff") == Verdict::Wrong);
        assert_eq!(wrong.count(), TRIES as usize);
    }

    #[test]
    fn a_cookie_counts_only_whole_and_is_not_the_token() {
        let access = Access::new(Token::new(TOKEN).unwrap(), Arc::new(ManualClock::default()));
        let given = access.cookie().unwrap().to_str().unwrap().to_owned();
        assert!(!given.contains(TOKEN));
        let pair = given.split(';').next().unwrap();
        let verdict = |cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            access.of_request(&headers)
        };
        assert_eq!(verdict(pair), Verdict::Welcome);
        assert_eq!(verdict(&format!("a=b; {COOKIE}=old; {pair}; c")), Verdict::Welcome);
        let shorter = &pair[..pair.len() - 1];
        for cookie in [shorter, &format!("x{pair}"), &format!("{COOKIE}={TOKEN}"), COOKIE, ""] {
            assert_eq!(verdict(cookie), Verdict::Unknown, "{cookie:?}");
        }
    }
}
