//! Inputs for the readers of bytes that others wrote. FUZZ and SEED in the environment are how many there are, and what they
//! are made from: `FUZZ=1000000 cargo test --release --bin choreoctl -- fuzzed`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

/// How many inputs a reader is given where the environment does not say.
const INPUTS: u64 = 2_000;
/// Most bytes of an input.
const LONGEST: usize = 16 << 10;
/// What readers stumble over.
const TOKENS: [&[u8]; 28] = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x1b]0;x\x07",
    b"\xe2\x80\xae",
    b"\r\n",
    b"\n---\n",
    b"\t",
    b"- ",
    b": ",
    b"&a ",
    b"*a",
    b"!!int ",
    b"|+9\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"null",
    b"1e308",
    b"-9223372036854775809",
    b"99999-12-31T23:59:59Z",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x02\x01\xff",
    b"-----BEGIN CERTIFICATE-----\n",
];

/// Gives a reader inputs that are made of these seeds.
///
/// # Panics
/// Where the reader does, with the input.
pub fn fuzz(seeds: &[&[u8]], read: impl Fn(&[u8])) {
    let setting = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let mut random = Rng::with_seed(setting("SEED", 1));
    for number in 0..setting("FUZZ", INPUTS) {
        let mut input = choice(seeds, &mut random).to_vec();
        for _ in 0..random.u32(1..8) {
            change(&mut input, seeds, &mut random);
        }
        input.truncate(LONGEST);
        let read = catch_unwind(AssertUnwindSafe(|| read(&input)));
        assert!(read.is_ok(), "input {number}: {}", input.escape_ascii());
    }
}

/// A part of an input, which may be empty.
fn part(input: &[u8], random: &mut Rng) -> std::ops::Range<usize> {
    let start = random.usize(0..=input.len());
    start..(start + random.usize(0..64)).min(input.len())
}

fn choice<'c>(choices: &[&'c [u8]], random: &mut Rng) -> &'c [u8] {
    choices[random.usize(0..choices.len())]
}

fn change(input: &mut Vec<u8>, seeds: &[&[u8]], random: &mut Rng) {
    let at = random.usize(0..=input.len());
    let own = part(input, random);
    match random.u32(0..8) {
        0 if at < input.len() => input[at] ^= 1 << random.u32(0..8),
        1 if at < input.len() => input[at] = random.u8(..),
        2 => drop(input.splice(at..at, choice(&TOKENS, random).iter().copied())),
        3 => drop(input.splice(own, choice(&TOKENS, random).iter().copied())),
        4 => drop(input.drain(own)),
        5 => {
            let text = input[own].repeat(random.usize(1..20));
            input.splice(at..at, text);
        }
        6 => {
            let seed = choice(seeds, random);
            let text = seed[random.usize(0..=seed.len())..].to_vec();
            input.splice(at.., text);
        }
        _ => input.truncate(at),
    }
}
