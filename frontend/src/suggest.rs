//! "Did you mean": the known word that is nearest to a misspelt one.
//!
//! Knows nothing of what the words stand for.

use std::fmt;

/// Words as far apart as this or farther are not suggested.
const TOO_FAR: usize = 3;

/// A suggestion, or none; displays as a suffix ` (did you mean X?)` or as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion(pub Option<String>);

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(word) => write!(f, " (did you mean {word}?)"),
            None => Ok(()),
        }
    }
}

/// Finds the word among `known` that is nearest to `word`.
///
/// An exact match yields nothing: the error has another reason then.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Suggestion {
    let mut best = ((TOO_FAR, false), None);
    for candidate in known {
        if candidate == word {
            return Suggestion(None);
        }
        // Among equals, people get the first letter right: `RNU` is `RUN`, not `ENV`.
        let other_initial = candidate.chars().next() != word.chars().next();
        let rank = (distance(word, candidate), other_initial);
        if rank < best.0 {
            best = (rank, Some(candidate));
        }
    }
    Suggestion(best.1.map(str::to_owned))
}

/// Like [`nearest`], ignoring case; the suggestion takes on the case of `word` where it is uniform.
pub fn nearest_ignoring_case<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Suggestion {
    let known: Vec<String> = known.into_iter().map(str::to_lowercase).collect();
    let Suggestion(found) = nearest(&word.to_lowercase(), known.iter().map(String::as_str));
    let all_upper = word == word.to_uppercase() && word != word.to_lowercase();
    Suggestion(found.map(|found| if all_upper { found.to_uppercase() } else { found }))
}

/// Returns the Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("mont", "mount", 1),
            ("bulid", "build", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggests_the_nearest_word_only() {
        let check = |word: &str, expected: &str| {
            assert_eq!(
                nearest(word, ["mount", "network", "device"]).to_string(),
                expected,
                "{word}"
            );
        };
        check("mont", " (did you mean mount?)");
        check("mount", "");
        check("security", "");
        let any_case =
            |word: &str| nearest_ignoring_case(word, ["ENTRYPOINT", "ENV", "RUN"]).to_string();
        assert_eq!(any_case("FNTRYPOINT"), " (did you mean ENTRYPOINT?)");
        assert_eq!(any_case("RNU"), " (did you mean RUN?)");
        assert_eq!(any_case("runn"), " (did you mean run?)");
        assert_eq!(any_case("Runn"), " (did you mean run?)");
    }
}
