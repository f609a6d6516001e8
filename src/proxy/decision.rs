//! Names for decisions, so that an answer, a log line and an upstream's record can be joined.

use std::cell::Cell;

/// Makes the ids of one worker.
#[derive(Debug)]
pub(super) struct DecisionIds {
    prefix: [u8; PREFIX],
    count: Cell<u64>,
}

impl DecisionIds {
    /// `process` is random, so that ids of two runs or replicas differ; `worker` tells threads apart.
    pub(super) fn new(process: u64, worker: u16) -> Self {
        let mut prefix = [0; PREFIX];
        let (left, right) = prefix.split_at_mut(PROCESS);
        hex(process, left);
        hex(u64::from(worker), right);
        Self {
            prefix,
            count: Cell::new(0),
        }
    }

    pub(super) fn next(&self) -> DecisionId {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let mut text = [0; LENGTH];
        let (left, right) = text.split_at_mut(PREFIX);
        left.copy_from_slice(&self.prefix);
        hex(count, right);
        DecisionId(text)
    }
}

/// The id of one decision: lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecisionId([u8; LENGTH]);

impl DecisionId {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn of_test() -> Self {
        DecisionIds::new(1, 2).next()
    }
}

/// Writes the low digits of `number`, as many as there is room for.
fn hex(mut number: u64, to: &mut [u8]) {
    for byte in to.iter_mut().rev() {
        *byte = match (number & 0xf) as u8 {
            digit @ 0..=9 => b'0' + digit,
            digit => b'a' - 10 + digit,
        };
        number >>= 4;
    }
}

/// Digits of the process: 40 random bits.
const PROCESS: usize = 10;
/// Digits of process and worker.
const PREFIX: usize = PROCESS + 4;
/// Digits of all; the count has 40 bits, eleven days at a million requests a second.
const LENGTH: usize = PREFIX + 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_process_worker_and_count() {
        let ids = DecisionIds::new(0xab_cdef_0123, 0x1f);
        assert_eq!(ids.next().as_str(), "abcdef0123001f0000000000");
        assert_eq!(ids.next().as_str(), "abcdef0123001f0000000001");
    }
}
