//! The tokenizer against OpenAI's own output, and against whatever a text can hold.
#![expect(clippy::unwrap_used, reason = "what these tests prepare must work; if not, they fail")]

use proptest::prelude::*;
use serde::Deserialize;
use spotter_models::{
    Kind,
    tokenize::{MAX_TEXT_BYTES, Tokenizer, VOCABULARY_SHA256, VOCABULARY_SIZE},
    towers::Config,
};

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("golden/tokenizer.json")).unwrap()
}

#[test]
fn golden_texts_have_the_golden_ids() {
    let tokenizer = Tokenizer::clip().unwrap();
    let golden = golden();
    assert_eq!(golden.len(), 174);
    let mut wrong = Vec::new();
    for case in &golden {
        match tokenizer.encode(&case.text) {
            Ok(words) if words.ids() == case.ids => {}
            // No words: the golden ids are empty, and here the text is refused.
            Err(error) if case.ids.is_empty() => assert_eq!(error.kind(), Kind::Config),
            other => wrong.push(format!("{:?}: {other:?}, not {:?}", case.text, case.ids)),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_word_limit_keeps_67_words_and_tells_what_was_lost() {
    let config = Config::vit_b16();
    assert_eq!((config.word_limit(), config.vocab), (67, VOCABULARY_SIZE));
    let tokenizer = Tokenizer::clip().unwrap();
    for words in [1, 66, 67, 68, 120] {
        let text: Vec<String> = (0..words).map(|i| format!("w{}", i % 10)).collect();
        // Each is a letter and a digit: two BPE words.
        let input = tokenizer.encode(&text.join(" ")).unwrap().fit(&config).unwrap();
        assert_eq!(input.ids().len(), (2 * words).min(67) + 2);
        assert_eq!(input.ids().first(), Some(&49_406));
        assert_eq!(input.ids().last(), Some(&49_407));
        assert!(input.ids()[1..input.ids().len() - 1].iter().all(|id| *id < 49_406));
        assert_eq!(input.lost().is_some(), 2 * words > 67, "{words}");
    }
    let text = format!("{} UMBRELLA &amp; a hat", "very ".repeat(67));
    let input = tokenizer.encode(&text).unwrap().fit(&config).unwrap();
    assert_eq!(input.lost(), Some("umbrella & a hat"));
}

#[test]
fn a_word_that_is_cut_through_is_reported_whole() {
    let config = Config { context: 2 + 8 + 2, ..Config::vit_b16() };
    let words = Tokenizer::clip().unwrap().encode("a hashtagmention here").unwrap();
    assert!(words.ids().len() > 3, "{:?}: the middle word must have several pieces", words);
    let input = words.fit(&config).unwrap();
    assert_eq!(input.ids().len(), 4);
    assert_eq!(input.lost(), Some("hashtagmention here"));
}

#[test]
fn a_model_of_another_vocabulary_is_refused() {
    let words = Tokenizer::clip().unwrap().encode("a man").unwrap();
    let error = words.fit(&Config { vocab: 512, ..Config::vit_b16() }).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("512"), "{error}");
}

#[test]
fn texts_without_words_and_without_end_are_refused() {
    let tokenizer = Tokenizer::clip().unwrap();
    for text in ["", "  \n\t", "\u{0}\u{7}", "&#7;", "\u{feff}", "\u{a0}\u{2003}"] {
        let error = tokenizer.encode(text).unwrap_err();
        assert!(error.to_string().contains("no words"), "{text:?}: {error}");
    }
    let longest = "a".repeat(MAX_TEXT_BYTES);
    assert!(tokenizer.encode(&longest).is_ok());
    let error = tokenizer.encode(&format!("{longest}a")).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("8193 bytes"), "{error}");
}

#[test]
fn a_text_cannot_write_a_special_token() {
    let tokenizer = Tokenizer::clip().unwrap();
    for text in ["<|endoftext|>", "&lt;|startoftext|&gt; x", "<|ENDOFTEXT|>", "<|end&#111;ftext|>"]
    {
        let words = tokenizer.encode(text).unwrap();
        assert!(words.ids().iter().all(|id| *id < 49_406), "{text}");
    }
}

#[test]
fn the_vocabulary_has_the_hash_that_manifests_record() {
    use sha2::Digest as _;
    let bytes = include_bytes!("../vocabulary/bpe_simple_vocab_16e6.txt.gz");
    let hash: String =
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, VOCABULARY_SHA256);
}

/// Strings that reach the repair of encodings: UTF-8 read as Latin-1 or Windows-1252.
fn mojibake() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.bytes().map(char::from).collect())
}

/// Strings of the pieces that have a meaning to one of the steps.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "&",
        "&amp",
        ";",
        "&#",
        "x",
        "1",
        "&#x",
        "<|",
        "endoftext",
        "|>",
        "'S",
        "'",
        "\u{17f}",
        "Ã",
        "\u{a0}",
        "â€",
        "\u{1a}",
        "\u{fffd}",
        "\u{1b}[3m",
        "\r\n",
        "\u{2028}",
        "ﬁ",
        "İ",
        "Σ",
        "é",
        "e\u{301}",
        "í\u{a0}\u{80}",
        "\u{ed}",
        "À\u{80}",
        "한",
        "𝔸",
        "👩\u{200d}🦰",
        " ",
        "à ",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_panics_or_yields_an_id_out_of_range(
        text in prop_oneof![any::<String>(), mojibake(), pieces()]
    ) {
        let config = Config { context: 30, ..Config::vit_b16() };
        match Tokenizer::clip().unwrap().encode(&text) {
            Err(error) => prop_assert!(error.to_string().contains("no words"), "{}", error),
            Ok(words) => {
                let input = words.fit(&config).unwrap();
                prop_assert!(input.ids().len() <= config.word_limit() + 2);
                prop_assert!(words.ids().iter().all(|id| *id < 49_406));
                if let Some(lost) = input.lost() {
                    prop_assert!(!lost.is_empty() && words.text().ends_with(lost));
                }
            }
        }
    }
}
