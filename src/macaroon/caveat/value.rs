//! What caveats are made of: strings, byte strings and resource maps.

use std::fmt;

use smallvec::SmallVec;

use crate::macaroon::action::Action;

/// A string of the token, as raw bytes: the format does not ask for UTF-8.
///
/// Names and ids of usual length are kept in place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(SmallVec<[u8; 16]>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// Invalid UTF-8 becomes U+FFFD, control characters become escapes: text of a token may reach a
/// terminal.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in String::from_utf8_lossy(&self.0).chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A byte string of the token; `None` is nil, which hashes differently from empty.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(Option<Box<[u8]>>);

impl Blob {
    /// The bytes; nil has none.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    pub(in crate::macaroon) fn nil_or_bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

impl From<Option<&[u8]>> for Blob {
    fn from(bytes: Option<&[u8]>) -> Self {
        Self(bytes.map(Into::into))
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Some(bytes).into()
    }
}

/// Shows the length only: tickets and sealed keys belong in no log.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("nil"),
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// Masks by resource, in ascending order of their keys, each key once.
///
/// The zero key (0, or the empty string) stands for every resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources<K>(pub(super) Option<Vec<(K, Action)>>);

impl<K: Ord> Resources<K> {
    /// A map with these entries; of a repeated key the last one counts.
    pub fn new(entries: impl IntoIterator<Item = (K, Action)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
        Self(Some(sorted.into_iter().collect()))
    }

    /// The nil map: like the empty one it permits nothing, but it hashes differently.
    pub const fn nil() -> Self {
        Self(None)
    }

    /// The entries in ascending order; nil has none.
    pub fn entries(&self) -> &[(K, Action)] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether the map is nil.
    pub const fn is_nil(&self) -> bool {
        self.0.is_none()
    }
}

/// What a value keeps on the heap, for caches that are bounded by bytes.
pub(in crate::macaroon) trait Heap {
    /// Bytes, without the value itself.
    fn heap(&self) -> usize;
}

impl Heap for u64 {
    fn heap(&self) -> usize {
        0
    }
}

impl Heap for Text {
    fn heap(&self) -> usize {
        if self.0.spilled() {
            self.0.capacity()
        } else {
            0
        }
    }
}

impl Heap for Blob {
    fn heap(&self) -> usize {
        self.as_bytes().len()
    }
}

impl<K: Ord + Heap> Heap for Resources<K> {
    fn heap(&self) -> usize {
        self.entries()
            .iter()
            .map(|(key, _)| size_of::<(K, Action)>().saturating_add(key.heap()))
            .sum()
    }
}

impl<T: Heap> Heap for Option<Vec<T>> {
    fn heap(&self) -> usize {
        self.iter()
            .flatten()
            .map(|item| size_of::<T>().saturating_add(item.heap()))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_value_keeps_on_the_heap_is_counted() {
        assert_eq!(Blob::from([7; 9_000].as_slice()).heap(), 9_000);
        assert!(Text::from("x".repeat(9_000).as_str()).heap() >= 9_000);
        let ids = Resources::new((0..10).map(|id: u64| (id, Action::READ)));
        assert_eq!(ids.heap(), 10 * size_of::<(u64, Action)>());
    }
}
