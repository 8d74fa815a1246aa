//! What must hold of any input: it doesn't matter how it is divided (FRM-1.5), and each byte is told of exactly once
//! (ERR-3.3).

use super::*;
use crate::protocol::Reader;

const LIMIT: u32 = 300;
const GOOD: &[u8] = br#"{"t":"log","v":1,"m":{"seq":2,"ts":1},"p":{"run_id":"a","level":"info","msg":"x"}}"#;

/// Numbers that are random enough (Knuth's MMIX), and the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

/// Some frames and some damage.
fn input(random: &mut Random) -> Vec<u8> {
    let pieces = [
        frame(GOOD),
        frame(GOOD),
        frame(b"{\"v\":1,"),
        frame(b"[1]"),
        frame(b"{\"\xff\":1}"),
        frame(b"{\"a\0\":1}"),
        frame(&[b' '; 301]),
        frame(&[]),
        vec![0; 1 + random.below(6)],
        b"junk".to_vec(),
        frame(GOOD)[..random.below(80)].to_vec(),
    ];
    let mut bytes = Vec::new();
    for _ in 0..random.below(9) {
        bytes.extend(&pieces[random.below(pieces.len())]);
    }
    if !bytes.is_empty() && random.below(3) == 0 {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

fn read(mut framer: Box<dyn Framer>, bytes: &[u8], mut piece: impl FnMut() -> usize) -> Vec<Yielded> {
    let mut yielded = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (fed, left) = rest.split_at(piece().clamp(1, rest.len()));
        yielded.extend(framer.feed(fed));
        rest = left;
    }
    yielded.extend(framer.finish());
    assert_eq!(framer.state(), State::Closed);
    yielded
}

fn check(random: &mut Random, bytes: &[u8], open: impl Fn() -> Box<dyn Framer>) -> Vec<Yielded> {
    let whole = read(open(), bytes, || bytes.len());
    assert_eq!(whole, read(open(), bytes, || 1), "{bytes:?}");
    assert_eq!(whole, read(open(), bytes, || random.below(40)), "{bytes:?}");
    whole
}

/// Where the last one of these ends, which follow each other without a gap.
fn end(yielded: &[Yielded]) -> Option<u64> {
    yielded.iter().try_fold(0, |end, each| {
        assert_eq!(each.offset, end);
        each.length.map(|length| end + length)
    })
}

#[test]
fn recordings_are_read_alike_however_they_are_divided() {
    let mut random = Random(1);
    for _ in 0..5_000 {
        let bytes = input(&mut random);
        let open = |stops| Box::new(Recording::new(Reader::Strict, LIMIT, stops));
        let yielded = check(&mut random, &bytes, || open(false));
        assert_eq!(end(&yielded), Some(bytes.len() as u64));
        assert!(
            yielded.is_sorted_by_key(|each| !each.is_verified),
            "verified again: {bytes:?}"
        );
        let first_error = yielded
            .iter()
            .position(|each| matches!(each.outcome, Outcome::Refused { .. }));
        let until = first_error.map_or(yielded.len(), |index| index + 1);
        assert_eq!(check(&mut random, &bytes, || open(true)), yielded[..until]);
    }
}

#[test]
fn connections_are_read_alike_however_they_are_divided() {
    let mut random = Random(2);
    for _ in 0..5_000 {
        let bytes = input(&mut random);
        let yielded = check(&mut random, &bytes, || Box::new(Connection::new(Reader::Strict, LIMIT)));
        assert!(end(&yielded).is_none_or(|end| end == bytes.len() as u64));
    }
}

/// To look at all that has come again with each piece would take hours here.
#[test]
fn a_search_is_linear() {
    let cut = [&[0, 0xff, 0xff, 0xff][..], &[b'{'; 2_000_000]].concat();
    let bytes = cut.repeat(3);
    let open = Box::new(Recording::new(Reader::Strict, 16_777_215, false));
    let yielded = read(open, &bytes, || 10);
    assert_eq!(end(&yielded), Some(bytes.len() as u64));
    assert_eq!(yielded.len(), 1);
}
