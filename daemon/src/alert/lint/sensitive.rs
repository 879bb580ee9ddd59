//! What a site does not search for by its policy: protected traits, names, faces.
//!
//! Works on phrases: "a man in black" and "black shoes" are clothes, "black man" is a person's skin.
//! Words for men, women, boys, girls and for ages are no finding: witnesses describe persons by them, and
//! descriptions without them are of little use. A site that does not want them names them among its
//! refused terms.

use spotter_models::vocabulary::Vocabulary;

use super::{
    lists,
    words::{Word, quoted},
};

/// Words of a phrase that are looked through for what a trait belongs to.
const REACH: usize = 4;

/// The first protected trait of persons, as a reason to refuse it.
pub(super) fn protected_trait(words: &[Word]) -> Option<String> {
    let advice =
        "which this site does not search for; describe clothes, colours and what is carried";
    let about = |what: &str, of: &[Word]| format!("{} tells of {what}, {advice}", quoted(of));
    for (index, word) in words.iter().enumerate() {
        let of = |length: usize| words.get(index..(index + length).min(words.len()));
        if let Some(length) = skin(words, index) {
            return of(length).map(|of| about("the colour of a person's skin", of));
        }
        let lower = base(&word.lower);
        let kinds = [
            (&lists::RELIGIONS, "a person's religion"),
            (&lists::HEALTH, "a person's health"),
            (&lists::ORIENTATION, "a person's sexual orientation"),
            (&lists::IDENTITY, "a person's gender identity"),
            (&lists::POLITICS, "a person's political opinion"),
            (&lists::UNION, "membership of a union"),
        ];
        let found = kinds.iter().find(|(list, _)| list.has(lower));
        if let Some((_, what)) = found.filter(|_| !is_other_sense(words, index)) {
            return of(1).map(|of| about(what, of));
        }
        let is_origin = lists::ETHNIC.has(lower) || lists::NATIONS.has_form(lower);
        if is_origin && !is_made_there(words, index) {
            return of(1).map(|of| about("a person's origin", of));
        }
        if let Some((length, what)) = pairs(words, index) {
            return of(length).map(|of| about(what, of));
        }
    }
    None
}

/// A word without the 's at its end.
fn base(word: &str) -> &str {
    word.strip_suffix("'s").unwrap_or(word)
}

fn is(words: &[Word], index: usize, any_of: &[&str]) -> bool {
    words.get(index).is_some_and(|word| any_of.contains(&word.lower.as_str()))
}

/// The word before, where no comma or the like parts the two.
fn before(words: &[Word], index: usize) -> Option<&str> {
    let joined = words.get(index).is_some_and(|word| !word.after_break);
    index.checked_sub(1).filter(|_| joined).and_then(|at| words.get(at)).map(|w| w.lower.as_str())
}

/// The words that follow up to the next comma or the like.
fn following(words: &[Word], index: usize) -> impl Iterator<Item = &Word> {
    words.iter().skip(index + 1).take_while(|word| !word.after_break)
}

/// The length of a phrase that begins here and tells the colour of a person's skin.
fn skin(words: &[Word], index: usize) -> Option<usize> {
    let word = words.get(index)?;
    let next = following(words, index).next().map(|word| word.lower.as_str());
    match word.lower.as_str() {
        "skinned" | "complexion" | "complexioned" => return Some(1),
        "skin" => {
            let of_a_thing = matches!(
                before(words, index),
                Some(
                    "snake"
                        | "leopard"
                        | "crocodile"
                        | "animal"
                        | "bear"
                        | "sheep"
                        | "goat"
                        | "second"
                )
            );
            let of_clothes = next.is_some_and(|next| {
                lists::THINGS.has_form(next) || ["tight", "coloured", "colored"].contains(&next)
            });
            return (!of_a_thing && !of_clothes).then_some(1);
        }
        _ => {}
    }
    if !lists::SKIN.has(&word.lower) || is_what_is_worn(words, index) {
        return None;
    }
    let passed = following(words, index)
        .take(REACH)
        .take_while(|word| lists::BUILD.has(&word.lower) && !lists::PERSONS.has(&word.lower))
        .count();
    let person = words.get(index + 1 + passed);
    if let Some(person) = person.filter(|word| !word.after_break && is_person(&word.lower)) {
        let after = following(words, index + 1 + passed).next();
        return (!names_a_thing(&person.lower, after)).then_some(2 + passed);
    }
    is_said_of_a_person(words, index).then_some(1)
}

fn is_person(word: &str) -> bool {
    lists::PERSONS.has(word)
}

/// "in black", "wears all black": what follows belongs to something else.
fn is_what_is_worn(words: &[Word], index: usize) -> bool {
    let worn = ["in", "all", "wearing", "wears", "dressed", "clad", "entirely", "and"];
    before(words, index).is_some_and(|before| {
        worn.contains(&before)
            && (before != "and"
                || before_two(words, index)
                    .is_some_and(|two| lists::COLOURS.has(two) && in_before(words, index)))
    })
}

fn before_two(words: &[Word], index: usize) -> Option<&str> {
    before(words, index).and_then(|_| before(words, index - 1))
}

/// "in black and white": the colour before the "and" is worn.
fn in_before(words: &[Word], index: usize) -> bool {
    index >= 3 && before(words, index - 2) == Some("in")
}

/// "women's", "female shoes", "man bun": made for them, not a person.
fn names_a_thing(person: &str, after: Option<&Word>) -> bool {
    let Some(after) = after.map(|word| word.lower.as_str()) else { return false };
    (lists::MADE_FOR.has(person) && lists::THINGS.has_form(after))
        || (person == "man" && lists::MAN_THINGS.has(after))
}

/// "the man is black", "male, white, tall": said of a person and not of what follows.
fn is_said_of_a_person(words: &[Word], index: usize) -> bool {
    let ends = match words.get(index + 1) {
        None => true,
        Some(next) => {
            let goes_on = ["with", "in", "wearing", "who", "carrying", "has", "male", "female"];
            next.after_break || goes_on.contains(&next.lower.as_str())
        }
    };
    let said_of = |at: Option<usize>| {
        let word = at.and_then(|at| words.get(at)).map(|word| word.lower.as_str());
        word.is_some_and(|word| is_person(word) || ["he", "she", "who", "they"].contains(&word))
    };
    let by_verb = matches!(before(words, index), Some("is" | "was" | "looks" | "are" | "being"))
        && said_of(index.checked_sub(2));
    let by_list = words.get(index).is_some_and(|word| word.after_break)
        && words.get(index + 1).is_none_or(|next| next.after_break)
        && said_of(index.checked_sub(1));
    ends && (by_verb || by_list)
}

/// A word of a trait that here means something else: "union jack", "ill-fitting", "Christian Dior".
fn is_other_sense(words: &[Word], index: usize) -> bool {
    let Some(word) = words.get(index) else { return false };
    let next = following(words, index).next().map(|word| word.lower.as_str());
    match word.lower.as_str() {
        "christian" => next.is_some_and(|next| lists::BRANDS.has(next)),
        "monk" => matches!(next, Some("strap" | "straps" | "shoe" | "shoes")),
        "ill" => next == Some("fitting"),
        "blind" => next == Some("fold"),
        "conservative" | "liberal" => next.is_some_and(|next| lists::THINGS.has_form(next)),
        "mute" | "dwarf" => next.is_some_and(|next| lists::COLOURS.has(next)),
        _ => false,
    }
}

/// Whether a word of an origin is said of a thing: "Scottish kilt", "African print dress".
fn is_made_there(words: &[Word], index: usize) -> bool {
    let Some(word) = words.get(index) else { return false };
    let lower = word.lower.as_str();
    if lower == "polish" && matches!(before(words, index), Some("nail" | "shoe")) {
        return true;
    }
    if lower == "race" && before(words, index) != Some("mixed") {
        return following(words, index).next().is_some_and(|next| {
            lists::THINGS.has_form(&next.lower) || ["number", "car"].contains(&next.lower.as_str())
        });
    }
    for next in following(words, index).take(REACH) {
        if is_person(&next.lower) {
            return false;
        }
        if lists::THINGS.has_form(&next.lower) {
            return true;
        }
        if lists::FUNCTION.has(&next.lower) {
            return false;
        }
    }
    false
}

/// Traits that take two words, with how many words and what they tell of.
fn pairs(words: &[Word], index: usize) -> Option<(usize, &'static str)> {
    let next = following(words, index).next()?;
    let found = match (words.get(index)?.lower.as_str(), next.lower.as_str()) {
        ("middle", "eastern")
        | ("mixed", "race" | "heritage")
        | ("puerto", "rican")
        | ("sri", "lankan")
        | ("asylum", "seeker")
        | ("ethnically", _) => "a person's origin",
        ("of", origin)
            if ["colour", "color"].contains(&origin)
                && before(words, index).is_some_and(is_person) =>
        {
            "the colour of a person's skin"
        }
        ("straight", person) if is_person(person) && !is_what_is_worn(words, index) => {
            "a person's sexual orientation"
        }
        ("non", "binary") | ("drag", "queen") | ("cross", "dresser") => {
            "a person's gender identity"
        }
        ("left" | "right" | "far", "wing" | "winger" | "right" | "left")
            if is_political(words, index) =>
        {
            "a person's political opinion"
        }
        ("trump" | "party" | "brexit", "supporter" | "voter" | "member") => {
            "a person's political opinion"
        }
        ("union", "member" | "members" | "rep" | "representative" | "official")
        | ("trade" | "labour" | "labor", "union" | "unionist") => "membership of a union",
        ("wheelchair", "user") => "a person's health",
        _ => return None,
    };
    Some((2, found))
}

/// "far right" may be a place in a picture; "far-right man" and "right-wing" are not.
fn is_political(words: &[Word], index: usize) -> bool {
    is(words, index + 1, &["wing", "winger"])
        || words.get(index + 2).is_some_and(|word| !word.after_break && is_person(&word.lower))
}

/// The first thing that only a face would tell, as a reason to refuse it.
pub(super) fn face(words: &[Word]) -> Option<String> {
    let refuse = |of: &[Word]| {
        Some(format!(
            "{} describes a face, and this site does not search for faces; describe clothes, hair \
             and what is carried",
            quoted(of)
        ))
    };
    for (index, word) in words.iter().enumerate() {
        let here = words.get(index..=index).unwrap_or_default();
        let next = following(words, index).next().map(|word| word.lower.as_str());
        match word.lower.as_str() {
            "face" | "faces" | "facial" | "faced" if !is_no_face(words, index) => {
                return refuse(here);
            }
            "eyes" | "eye" | "eyed" => {
                let told = before(words, index).is_some_and(|colour| {
                    lists::COLOURS.has(colour) || ["hazel", "amber", "almond"].contains(&colour)
                });
                if told || matches!(next, Some("colour" | "color")) {
                    let from = index - usize::from(told);
                    return refuse(words.get(from..=index).unwrap_or_default());
                }
            }
            "resembles" | "resembling" | "lookalike" => return refuse(here),
            "like" if matches!(before(words, index), Some("looks" | "look" | "looking")) => {
                let who = words.get(index + 1);
                if who.is_some_and(|who| who.is_capitalised() && !who.is_all_capitals()) {
                    return refuse(words.get(index - 1..=index + 1).unwrap_or_default());
                }
            }
            feature if lists::FEATURES.has(feature) => {
                let worn = ["ring", "piercing", "stud", "plaster", "mask", "print"];
                if !next.is_some_and(|next| worn.contains(&next)) {
                    return refuse(here);
                }
            }
            _ => {}
        }
    }
    None
}

/// "face mask", "hood over his face", "facial hair", "North Face", "faces away".
fn is_no_face(words: &[Word], index: usize) -> bool {
    let Some(word) = words.get(index) else { return false };
    let next = words.get(index + 1).map(|word| word.lower.as_str());
    let near = index.saturating_sub(3)..=(index + 3).min(words.len().saturating_sub(1));
    match word.lower.as_str() {
        "facial" => next == Some("hair"),
        "faces" => matches!(
            next,
            Some(
                "away"
                    | "left"
                    | "right"
                    | "the"
                    | "towards"
                    | "toward"
                    | "forward"
                    | "back"
                    | "us"
            )
        ),
        _ => {
            before(words, index) == Some("north")
                || words
                    .get(near)
                    .is_some_and(|near| near.iter().any(|w| lists::FACE_COVERS.has(&w.lower)))
        }
    }
}

/// The first name of a person, as a reason to refuse it.
pub(super) fn name(words: &[Word], vocabulary: Option<&Vocabulary>) -> Option<String> {
    let refuse = |of: &[Word]| {
        Some(format!(
            "{} reads as a name, and this site does not search for names; describe what can be seen, \
             and write words that are no names in small letters",
            quoted(of)
        ))
    };
    let judges_capitals = judges_capitals(words);
    for (index, word) in words.iter().enumerate() {
        let two = words.get(index..(index + 2).min(words.len())).unwrap_or_default();
        let next = words.get(index + 1).map(|word| word.lower.as_str());
        let is_title = lists::TITLES.has(&word.lower) || (word.written == "Miss");
        // A title's full stop is a break.
        if is_title && next.is_some_and(|next| !lists::FUNCTION.has(next) && next != "martens") {
            return refuse(two);
        }
        if is_introduction(words, index) {
            return refuse(two);
        }
        let has_capital = word.is_capitalised() && (!word.is_all_capitals() || is_shouted(words));
        if has_capital && is_given_name(words, index) {
            return refuse(words.get(index..=index).unwrap_or_default());
        }
        let is_candidate = judges_capitals
            && word.is_capitalised()
            && !word.is_all_capitals()
            && !word.begins
            && word.written.chars().count() > 1
            && !word.has_digit()
            // A maker's or a club's: "Fjallraven backpack".
            && !following(words, index).next().is_some_and(|n| lists::THINGS.has_form(&n.lower));
        if is_candidate && !is_known(base(&word.lower), vocabulary) {
            let from = index.saturating_sub(1);
            let whole = words.get(from).filter(|before| {
                from < index
                    && !word.after_break
                    && before.is_capitalised()
                    && !is_known(&before.lower, vocabulary)
            });
            let from = if whole.is_some() { from } else { index };
            return refuse(words.get(from..=index).unwrap_or_default());
        }
    }
    None
}

/// "named Anna", "name is Anna", "known as Anna", "called Anna".
fn is_introduction(words: &[Word], index: usize) -> bool {
    let next = following(words, index).next();
    let Some(next) = next else { return false };
    let is_word = |word: &Word| !lists::FUNCTION.has(&word.lower);
    match words.get(index).map(|word| word.lower.as_str()) {
        Some("named" | "alias" | "aka" | "nicknamed") => is_word(next),
        Some("called") => is_word(next) && !["away", "back"].contains(&next.lower.as_str()),
        Some("name" | "surname" | "firstname") => {
            let things = ["tag", "badge", "plate", "tags", "label", "patch"];
            !things.contains(&next.lower.as_str()) && next.lower == "is"
        }
        Some("known") => next.lower == "as",
        _ => false,
    }
}

fn is_given_name(words: &[Word], index: usize) -> bool {
    let Some(word) = words.get(index) else { return false };
    let next = following(words, index).next().map(|word| word.lower.as_str());
    let near_brand = |other: Option<&str>| other.is_some_and(|other| lists::BRANDS.has(other));
    lists::GIVEN_NAMES.has(base(&word.lower))
        && !near_brand(next)
        && !near_brand(before(words, index))
        && !next.is_some_and(|next| lists::BRANDS.has(&word.lower) && lists::THINGS.has_form(next))
}

/// Whether all letters of the text are capital.
fn is_shouted(words: &[Word]) -> bool {
    let long: Vec<&Word> = words.iter().filter(|word| word.written.chars().count() > 1).collect();
    long.len() > 2 && long.iter().all(|word| word.is_all_capitals() || word.has_digit())
}

/// Whether capital letters mean anything here: not where most words have one, as in a headline.
fn judges_capitals(words: &[Word]) -> bool {
    let content = || words.iter().filter(|word| !lists::FUNCTION.has(&word.lower));
    let capitalised = content().filter(|word| word.is_capitalised()).count();
    // Two capitals in two words may be a name alone, "John Smith".
    content().count() < 4 || capitalised * 10 < content().count() * 7
}

/// Whether a word is one of descriptions, so that its capital letter makes no name of it.
fn is_known(word: &str, vocabulary: Option<&Vocabulary>) -> bool {
    let lists = [
        &lists::FUNCTION,
        &lists::PERSONS,
        &lists::BUILD,
        &lists::COLOURS,
        &lists::THINGS,
        &lists::LOOKS,
        &lists::BRANDS,
        &lists::TIMES,
        &lists::PLACES,
        &lists::WHERE,
        &lists::ACTIONS,
        &lists::NEGATIONS,
        &lists::ETHNIC,
        &lists::NATIONS,
    ];
    word.chars().count() < 2
        || lists.iter().any(|list| list.has_form(word))
        || vocabulary.is_some_and(|vocabulary| vocabulary.count(word) > 0)
}
