//! How a user and a password are shown to an RTSP server, as GStreamer's RTSP source shows them, so
//! that both are taken or refused alike.

use gstreamer::glib::{self, ChecksumType};

use super::{reason::Reason, spec::Credentials};

/// Why an RTSP server lets nobody in, by its status 401 or 403.
pub(super) fn refused(place: String, status: u16, with_credentials: bool) -> Reason {
    let advice = if with_credentials {
        "check user and password in the credentials file, and the rights of that user"
    } else {
        "put `user:password` into a file and name it as credentials_file"
    };
    Reason::Auth { place, status, advice }
}

/// The header `Authorization` that answers a server's challenges to a `DESCRIBE` of `uri`: Digest with
/// MD5 (RFC 2069, without `qop`) where it is offered, else Basic; `None` where neither is.
pub(super) fn authorization<'a>(
    challenges: impl Iterator<Item = &'a str>,
    credentials: &Credentials,
    uri: &str,
) -> Option<String> {
    let mut basic = None;
    for challenge in challenges {
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("digest")
            && let Some(header) = digest(rest, credentials, uri)
        {
            return Some(header);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let Credentials { user, password } = credentials;
            let coded = glib::base64_encode(format!("{user}:{password}").as_bytes());
            basic = Some(format!("Basic {coded}"));
        }
    }
    basic
}

fn digest(challenge: &str, credentials: &Credentials, uri: &str) -> Option<String> {
    let parameter = |name: &str| parameter(challenge, name);
    if parameter("algorithm").is_some_and(|algorithm| !algorithm.eq_ignore_ascii_case("md5")) {
        return None;
    }
    let (realm, nonce) = (parameter("realm")?, parameter("nonce")?);
    let md5 = |text: String| {
        glib::compute_checksum_for_data(ChecksumType::Md5, text.as_bytes())
            .map(|sum| sum.to_string())
    };
    let Credentials { user, password } = credentials;
    let who = md5(format!("{user}:{realm}:{password}"))?;
    let what = md5(format!("DESCRIBE:{uri}"))?;
    let response = md5(format!("{who}:{nonce}:{what}"))?;
    let opaque =
        parameter("opaque").map(|value| format!(", opaque=\"{value}\"")).unwrap_or_default();
    Some(format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\"{opaque}"
    ))
}

/// The value of `name=value` or `name="value"` in a comma-separated list.
fn parameter<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim());
        }
        rest = next.trim_start_matches([',', ' ']);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_answered_with_the_best_scheme_that_is_known() {
        let who = Credentials { user: "Mufasa".into(), password: "CircleOfLife".into() };
        let answer = |challenges: &[&str]| {
            authorization(challenges.iter().copied(), &who, "rtsp://camera/1")
        };
        let basic = "Basic realm=\"x\"";
        let md5 = "Digest realm=\"a, b\", stale=FALSE, nonce=\"42\", algorithm=MD5";
        let digest = answer(&[basic, md5]).unwrap();
        // printf '%s' of the three texts through md5sum.
        let response = "8753d0cdf5e36da539178a00588b9772";
        assert_eq!(
            digest,
            format!(
                "Digest username=\"Mufasa\", realm=\"a, b\", nonce=\"42\", uri=\"rtsp://camera/1\", \
                 response=\"{response}\""
            )
        );
        assert_eq!(answer(&[basic]).unwrap(), "Basic TXVmYXNhOkNpcmNsZU9mTGlmZQ==");
        let sha = "Digest realm=\"a\", nonce=\"42\", algorithm=SHA-256";
        assert_eq!(answer(&[sha, basic]).unwrap(), answer(&[basic]).unwrap());
        for unknown in [&[sha][..], &["Digest realm=\"a\""], &["Digest nonce=\""], &["Bearer"], &[]]
        {
            assert_eq!(answer(unknown), None, "{unknown:?}");
        }
    }
}
