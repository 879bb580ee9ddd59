//! Keys and signatures: against the standard tool's, and broken in every way.
#![expect(clippy::unwrap_used, reason = "what these tests prepare must work; if not, they fail")]

use std::path::Path;

use spotter_models::{
    Result,
    signature::{Keys, PublicKey, Role, SecretKey, Signature, sign},
};

/// The published example of minisign's format: a key, and its signature of "test".
const PUBLIC: &str = "untrusted comment: minisign public key\n\
    RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
const SIGNED: &str = "untrusted comment: signature from minisign secret key\n\
    RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
    trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
    wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n";

fn public() -> PublicKey {
    PublicKey::parse(Path::new("p"), PUBLIC).unwrap()
}

fn signature(text: &str) -> Result<Signature> {
    Signature::parse(Path::new("s"), text.as_bytes())
}

#[test]
fn what_the_standard_tool_signed_is_accepted() {
    assert_eq!(public().id(), "E7620F1842B4E81F");
    let signed = signature(SIGNED).unwrap();
    assert_eq!(signed.key_id(), public().id());
    signed.verify(b"test", &public()).unwrap();
    assert!(signed.verify(b"Test", &public()).is_err());
    let other = SIGNED.replace("timestamp:1633700835", "timestamp:1633700836");
    assert!(signature(&other).unwrap().verify(b"test", &public()).is_err(), "comment changed");
}

#[test]
fn keys_sign_and_only_theirs_verifies() {
    let (one, two) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let text = sign(b"manifest", &one, "bundle x").unwrap();
    assert!(text.contains("trusted comment: bundle x\n"));
    let signed = signature(&text).unwrap();
    let public = |key: &SecretKey| key.public().unwrap();
    let keys = Keys::new(vec![public(&one)], vec![public(&two)]).unwrap();
    assert_eq!(keys.signer(b"manifest", &signed).unwrap(), (Role::Vendor, public(&one).id()));
    let swapped = Keys::new(vec![public(&two)], vec![public(&one)]).unwrap();
    assert_eq!(swapped.signer(b"manifest", &signed).unwrap().0, Role::Site);
    let error = keys.signer(b"Manifest", &signed).unwrap_err().to_string();
    assert!(error.contains("changed since"), "{error}");
    let none = Keys::new(vec![public(&two)], vec![]).unwrap();
    let error = none.signer(b"manifest", &signed).unwrap_err().to_string();
    assert!(error.contains("none of those trusted"), "{error}");
    assert!(Keys::new(vec![public(&one)], vec![public(&one)]).is_err());
    assert!(sign(b"x", &one, "two\nlines").is_err());
}

#[test]
fn keys_survive_their_files() {
    let key = SecretKey::generate().unwrap();
    let text = key.to_text().unwrap();
    let again = SecretKey::parse(Path::new("k"), &text, None).unwrap();
    let public = key.public().unwrap();
    assert_eq!(again.public().unwrap(), public);
    let text = public.to_text().unwrap();
    assert_eq!(PublicKey::parse(Path::new("p"), &text).unwrap(), public);
}

#[test]
fn a_password_is_asked_for_and_must_be_right() {
    let (key, text) = SecretKey::generate_with_password("open").unwrap();
    let path = Path::new("k");
    let again = SecretKey::parse(path, &text, Some("open")).unwrap();
    assert_eq!(again.public().unwrap(), key.public().unwrap());
    let refused = |password| SecretKey::parse(path, &text, password).err().unwrap().to_string();
    assert!(refused(None).contains("--password-file"), "{}", refused(None));
    assert!(refused(Some("shut")).contains("Wrong password"));
}

#[test]
fn what_is_no_key_or_signature_is_refused() {
    for text in ["", "x", "a\nb\n", "untrusted comment: x\nRWQf6LRCGA9i53m\n"] {
        assert!(PublicKey::parse(Path::new("p"), text).is_err(), "{text:?}");
        assert!(SecretKey::parse(Path::new("k"), text, None).is_err(), "{text:?}");
        assert!(signature(text).is_err(), "{text:?}");
    }
    // Every line cut at every place: an error, or a signature that does not fit; never a panic.
    for at in 0..SIGNED.len() {
        if let Ok(signed) = signature(&SIGNED[..at]) {
            // Only the line end at the very end may be missing.
            assert!(at + 1 >= SIGNED.len() && signed.verify(b"test", &public()).is_ok());
        }
    }
    let lines: Vec<&str> = SIGNED.lines().collect();
    let short = format!("{}\n{}\n{}\nAAAA\n", lines[0], lines[1], lines[2]);
    assert!(signature(&short).unwrap_err().to_string().contains("fourth line"));
    assert!(Signature::parse(Path::new("s"), b"\xff\xfe").is_err());
    let other = PUBLIC.replace("RWQf", "AWQf");
    assert!(PublicKey::parse(Path::new("p"), &other).is_err());
}

/// Of minisign 0.11, `-G -W`; made for this test and of no other use.
const TOOLS_SECRET: &str = "untrusted comment: minisign encrypted secret key\n\
    RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAfpDpzU/R3/dZDUevRDjKfPIcd7tg941FnWYAm8OhvNMzeHNpjrS7RFIYhjNAVysCrwuwF2CpzsyF5QtjqKMCHU/PNteunqSZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
const TOOLS_PUBLIC: &str = "untrusted comment: minisign public key F7DFD14FCDE9907E\n\
    RWR+kOnNT9Hf91IYhjNAVysCrwuwF2CpzsyF5QtjqKMCHU/PNteunqSZ\n";

#[test]
fn the_standard_tools_key_without_a_password_signs() {
    let key = SecretKey::parse(Path::new("k"), TOOLS_SECRET, None).unwrap();
    let public = PublicKey::parse(Path::new("p"), TOOLS_PUBLIC).unwrap();
    assert_eq!(key.public().unwrap(), public);
    let signed = signature(&sign(b"manifest", &key, "x").unwrap()).unwrap();
    signed.verify(b"manifest", &public).unwrap();
    // Without a checksum, damage shows when it signs: the halves no longer belong together.
    let line = TOOLS_SECRET.lines().nth(1).unwrap();
    let at = 90;
    let other = if line.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = format!("comment\n{}{other}{}\n", &line[..at], &line[at + 1..]);
    let key = SecretKey::parse(Path::new("k"), &damaged, None).unwrap();
    assert!(sign(b"manifest", &key, "x").is_err());
    assert!(SecretKey::parse(Path::new("k"), &damaged[..damaged.len() - 9], None).is_err());
}
