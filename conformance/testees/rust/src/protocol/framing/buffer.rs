//! Bytes that have come and are not used up yet.

/// A queue of bytes that knows how far into the input it stands.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    used: usize,
    offset: u64,
}

impl Buffer {
    pub fn push(&mut self, bytes: &[u8]) {
        // To move what is left costs no more than was used up before, so each byte is moved once on average.
        if self.used > self.bytes.len() / 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// The position in the input of the first byte that is left.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn skip(&mut self, count: usize) {
        self.used += count;
        self.offset += count as u64;
        debug_assert!(self.used <= self.bytes.len());
    }
}
