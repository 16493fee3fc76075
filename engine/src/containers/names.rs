//! Names of containers: which are allowed, and one for who has none.

/// Whether a container may be called that: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

const MOODS: [&str; 48] = [
    "able", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy",
    "crisp", "daring", "eager", "early", "fair", "fleet", "fond", "frank", "free", "gentle",
    "glad", "grand", "happy", "hardy", "jolly", "keen", "kind", "light", "lively", "lucid",
    "merry", "mild", "neat", "noble", "plain", "proud", "quick", "quiet", "ready", "sharp",
    "silent", "smart", "steady", "sunny", "swift", "tidy", "warm", "wise",
];

const PEOPLE: [&str; 48] = [
    "abel",
    "ada",
    "ampere",
    "babbage",
    "bohr",
    "boole",
    "cantor",
    "cauchy",
    "celsius",
    "curie",
    "darwin",
    "dijkstra",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fourier",
    "galois",
    "gauss",
    "goedel",
    "hamming",
    "hertz",
    "hilbert",
    "hopper",
    "joule",
    "kelvin",
    "kepler",
    "knuth",
    "laplace",
    "leibniz",
    "liskov",
    "maxwell",
    "mendel",
    "naur",
    "newton",
    "noether",
    "ohm",
    "pascal",
    "perlman",
    "planck",
    "ramanujan",
    "ritchie",
    "shannon",
    "tesla",
    "thompson",
    "turing",
    "volta",
    "wirth",
];

/// A name made of random bytes, as `calm_euler`; from the third try on with a digit behind.
pub fn generate(random: [u8; 3], attempt: u32) -> String {
    let pick = |words: &[&'static str; 48], byte: u8| words[usize::from(byte) % words.len()];
    let name = format!("{}_{}", pick(&MOODS, random[0]), pick(&PEOPLE, random[1]));
    if attempt < 2 { name } else { format!("{name}{}", random[2] % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for (name, valid) in [
            ("web", true),
            ("a1", true),
            ("Web_1.x-y", true),
            ("a", false),
            ("", false),
            ("-web", false),
            ("we/b", false),
            ("wéb", false),
        ] {
            assert_eq!(is_valid(name), valid, "{name}");
        }
        assert_eq!(generate([0, 0, 0], 0), "able_abel");
        assert_eq!(generate([49, 1, 13], 2), "amber_ada3");
        assert!(is_valid(&generate([47, 47, 0], 0)));
    }
}
