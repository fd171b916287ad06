//! Owns making broken input out of sound input: a seeded source of chance, and what it does to bytes.

/// Chance that a seed repeats (splitmix64; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `most`, 0 where that is 0.
    pub fn below(&mut self, most: usize) -> usize {
        if most == 0 { 0 } else { (self.next() % most as u64) as usize }
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Longest input that is made.
const LONGEST: usize = 64 << 10;

/// What breaks readers: ends of ranges, other kinds, nesting, text that is none.
const TOKENS: [&[u8]; 36] = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"0.1",
    b"\"\"",
    b"[]",
    b"{}",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":",
    b"\"\\ud800\"",
    b"\\u0000",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xf0\x9f\x98\x80",
    b"\0",
    b"\n",
    b"\t",
    b": ",
    b"- ",
    b"&a [*a, *a]",
    b"*a",
    b"<<: *a",
    b"!!binary x",
    b"|\n",
    b"%YAML 1.1\n---\n",
    b",",
    b"=",
    b";",
    b"\xdf\xff\xff\xff\xff",
    b"\xc7\x0c\x00",
    b"\xd4\x00\x00",
    b"999999999999999999999999G",
];

/// One to eight edits of a member of the corpus, sometimes spliced with another.
pub fn mutated(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = chance.pick(corpus).clone();
    for _ in 0..=chance.below(8) {
        edit(&mut bytes, corpus, chance);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn edit(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    let end = (at + 1 + chance.below(24)).min(bytes.len());
    match chance.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.next() as u8,
        2 if at < end => drop(bytes.drain(at..end)),
        3 if at < end => {
            let again: Vec<u8> = bytes[at..end].repeat(1 + chance.below(40));
            bytes.splice(at..at, again);
        }
        4 => bytes.truncate(at),
        5 => {
            let other = chance.pick(corpus);
            let from = chance.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        6 if at < end => drop(bytes.splice(at..end, chance.pick(&TOKENS).iter().copied())),
        _ => drop(bytes.splice(at..at, chance.pick(&TOKENS).iter().copied())),
    }
}
