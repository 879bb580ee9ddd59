//! HTML entities as Python's `html.unescape` reads them, which is what CLIP was trained with.
//!
//! Unlike the decoder of `html-escape`, whose table of names this uses, it also takes the old names
//! without a semicolon and maps numbers as browsers do.

use std::borrow::Cow;

use html_escape::NAMED_ENTITIES;

/// Names that count without a semicolon, sorted; the HTML standard keeps them for old pages.
const WITHOUT_SEMICOLON: [&str; 106] = [
    "AElig", "AMP", "Aacute", "Acirc", "Agrave", "Aring", "Atilde", "Auml", "COPY", "Ccedil",
    "ETH", "Eacute", "Ecirc", "Egrave", "Euml", "GT", "Iacute", "Icirc", "Igrave", "Iuml", "LT",
    "Ntilde", "Oacute", "Ocirc", "Ograve", "Oslash", "Otilde", "Ouml", "QUOT", "REG", "THORN",
    "Uacute", "Ucirc", "Ugrave", "Uuml", "Yacute", "aacute", "acirc", "acute", "aelig", "agrave",
    "amp", "aring", "atilde", "auml", "brvbar", "ccedil", "cedil", "cent", "copy", "curren", "deg",
    "divide", "eacute", "ecirc", "egrave", "eth", "euml", "frac12", "frac14", "frac34", "gt",
    "iacute", "icirc", "iexcl", "igrave", "iquest", "iuml", "laquo", "lt", "macr", "micro",
    "middot", "nbsp", "not", "ntilde", "oacute", "ocirc", "ograve", "ordf", "ordm", "oslash",
    "otilde", "ouml", "para", "plusmn", "pound", "quot", "raquo", "reg", "sect", "shy", "sup1",
    "sup2", "sup3", "szlig", "thorn", "times", "uacute", "ucirc", "ugrave", "uml", "uuml",
    "yacute", "yen", "yuml",
];

/// Longest name that is looked at; the longest in the table has 31 letters.
const LONGEST_NAME: usize = 32;

/// What browsers read for the numbers 128 to 159: Windows-1252, where it has a character.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// Replaces entities once. Borrowed where there is none.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find('&') else {
        return Cow::Borrowed(text);
    };
    let (head, mut rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len());
    out.push_str(head);
    while let Some(after) = rest.strip_prefix('&') {
        let used = match after.strip_prefix('#') {
            Some(number) => numeric(number, &mut out).map(|used| used + 1),
            None => named(after, &mut out),
        };
        let after = match used {
            Some(used) => after.get(used..).unwrap_or_default(),
            None => {
                out.push('&');
                after
            }
        };
        let next = after.find('&').unwrap_or(after.len());
        let (plain, tail) = after.split_at(next);
        out.push_str(plain);
        rest = tail;
    }
    Cow::Owned(out)
}

/// Reads what follows `&#`; returns how many bytes of it were used.
fn numeric(text: &str, out: &mut String) -> Option<usize> {
    let (digits, radix, prefix) = match text.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16, 1),
        None => (text, 10, 0),
    };
    let length = digits.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
    if length == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at(length);
    // A number that overflows is beyond Unicode like any other that is too large.
    let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    out.extend(character(number));
    Some(prefix + length + usize::from(rest.starts_with(';')))
}

/// The character of a numeric entity; `None` for numbers that stand for nothing.
fn character(number: u32) -> Option<char> {
    match number {
        0 => Some(char::REPLACEMENT_CHARACTER),
        // Control characters (not tab, line feed, form feed, carriage return) and non-characters.
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        0x80..=0x9f => WINDOWS_1252.get((number - 0x80) as usize).copied(),
        _ if number <= 0x0010_ffff && number & 0xfffe == 0xfffe => None,
        _ => Some(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}

/// Reads a name after `&`; returns how many bytes of it were used.
fn named(text: &str, out: &mut String) -> Option<usize> {
    let length =
        text.bytes().take(LONGEST_NAME).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let (name, rest) = text.split_at(length);
    if rest.starts_with(';')
        && let Some(value) = lookup(name)
    {
        out.push_str(value);
        return Some(length + 1);
    }
    // The longest beginning that is an old name: `&notit;` is `¬it;`.
    (2..=length).rev().find_map(|end| {
        let name = name.get(..end)?;
        WITHOUT_SEMICOLON.binary_search(&name).ok()?;
        out.push_str(lookup(name)?);
        Some(end)
    })
}

fn lookup(name: &str) -> Option<&'static str> {
    let index = NAMED_ENTITIES.binary_search_by(|(other, _)| (*other).cmp(name.as_bytes())).ok()?;
    NAMED_ENTITIES.get(index).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_old_name_has_a_value() {
        assert!(WITHOUT_SEMICOLON.is_sorted());
        for name in WITHOUT_SEMICOLON {
            assert!(lookup(name).is_some(), "{name}");
        }
    }

    /// Expected values are those of CPython 3.11.
    #[test]
    fn entities_are_read_as_python_does() {
        let cases = [
            ("plain", "plain"),
            ("a & b", "a & b"),
            ("&", "&"),
            ("&&amp;", "&&"),
            ("&amp;amp;", "&amp;"),
            ("&lt;b&gt;", "<b>"),
            ("&eacute;t&eacute", "\u{e9}t\u{e9}"),
            ("&notit;", "\u{ac}it;"),
            ("&notin;", "\u{2209}"),
            ("&notin", "\u{ac}in"),
            ("&ampersand", "&ersand"),
            ("&AMP;&Amp;", "&&Amp;"),
            ("&#65;&#x41;&#X41", "AAA"),
            ("&#65B", "AB"),
            ("&#", "&#"),
            ("&#;", "&#;"),
            ("&#x;", "&#x;"),
            ("&#xg", "&#xg"),
            ("&#0;", "\u{fffd}"),
            ("&#128;&#x9f;", "\u{20ac}\u{178}"),
            ("&#129;", "\u{81}"),
            ("&#7;a", "a"),
            ("&#127;", ""),
            ("&#xd800;", "\u{fffd}"),
            ("&#x110000;", "\u{fffd}"),
            ("&#99999999999999999999;", "\u{fffd}"),
            ("&#xfdd0;b", "b"),
            ("&#x1fffe;c", "c"),
            ("&#13;", "\u{d}"),
            ("&#10;", "\u{a}"),
            ("&unknown;", "&unknown;"),
            ("&;", "&;"),
            ("&NotEqualTilde;", "\u{2242}\u{338}"),
            ("&CounterClockwiseContourIntegral;", "\u{2233}"),
            ("&ngt", "&ngt"),
            ("&gt&lt", "><"),
            ("&zwj;", "\u{200d}"),
            ("&\u{e9};", "&\u{e9};"),
            ("&amp\u{e9}", "&\u{e9}"),
            (
                "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;",
                "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;",
            ),
            ("&#\u{663};", "&#\u{663};"),
            ("&l", "&l"),
            ("&lt", "<"),
            ("&frac12x", "\u{bd}x"),
            ("&sup", "&sup"),
            ("&sup2", "\u{b2}"),
        ];
        for (text, expected) in cases {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }
}
