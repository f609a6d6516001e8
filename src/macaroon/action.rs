//! Action sets: what a request wants to do, and what a mask lets it do.

use std::fmt;

/// A set of actions, and equally the mask that permits them (format chapter 9).
///
/// Five bits have a meaning. The others are kept, because a mask in a token is 16 bits wide and
/// every one of them takes part in the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Action(u16);

impl Action {
    /// No action at all; permitted by every mask, so no route may ask for it.
    pub const NONE: Self = Self(0);
    /// `r`
    pub const READ: Self = Self(1);
    /// `w`
    pub const WRITE: Self = Self(2);
    /// `c`
    pub const CREATE: Self = Self(4);
    /// `d`
    pub const DELETE: Self = Self(8);
    /// `C`: start and stop.
    pub const CONTROL: Self = Self(16);
    /// `rwcdC`
    pub const ALL: Self = Self(31);

    const LETTERS: [(char, Self); 5] = [
        ('r', Self::READ),
        ('w', Self::WRITE),
        ('c', Self::CREATE),
        ('d', Self::DELETE),
        ('C', Self::CONTROL),
    ];

    /// The set with exactly these bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// All sixteen bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether every action of `self` is inside `mask`. The empty set always is.
    pub const fn is_within(self, mask: Self) -> bool {
        self.0 & mask.0 == self.0
    }

    /// The actions of `self` that `mask` lacks.
    pub const fn without(self, mask: Self) -> Self {
        Self(self.0 & !mask.0)
    }

    /// The actions that both sets hold.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads the JSON form, as leniently as the reference: letters outside `rwcdC` are ignored,
    /// and exactly `*` means all sixteen bits.
    pub fn from_json(text: &str) -> Self {
        if text == "*" {
            return Self(u16::MAX);
        }
        Self::LETTERS
            .iter()
            .filter(|(letter, _)| text.contains(*letter))
            .fold(Self::NONE, |set, (_, bit)| Self(set.0 | bit.0))
    }

    /// Reads the form used in configuration: one or more of `rwcdC`, nothing else.
    pub fn from_config(text: &str) -> Option<Self> {
        let known = |c: char| Self::LETTERS.iter().any(|(letter, _)| *letter == c);
        (!text.is_empty() && text.chars().all(known)).then(|| Self::from_json(text))
    }
}

/// The letters of the five low bits; higher bits have no letter (format chapter 9).
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        Self::LETTERS
            .iter()
            .filter(|(_, bit)| bit.is_within(*self))
            .try_for_each(|(letter, _)| f.write_char(*letter))
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Action({self}, {:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_in_any_order_and_printed_in_one() {
        assert_eq!(Action::from_json("Cdcwr"), Action::ALL);
        assert_eq!(Action::from_json("rr-x").to_string(), "r");
        assert_eq!(Action::from_json("*").bits(), u16::MAX);
        assert_eq!(Action::from_json("*").to_string(), "rwcdC");
        assert_eq!(Action::from_bits(32).to_string(), "");
    }

    #[test]
    fn what_a_mask_lacks_is_told_without_what_it_has() {
        let set = |text| Action::from_json(text);
        assert_eq!(set("rwC").without(set("wd")), set("rC"));
        assert_eq!(
            Action::ALL.without(Action::from_bits(u16::MAX)),
            Action::NONE
        );
    }

    #[test]
    fn configuration_refuses_what_json_ignores() {
        assert_eq!(Action::from_config("wC"), Some(Action::from_bits(18)));
        for bad in ["", "x", "r w", "*"] {
            assert_eq!(Action::from_config(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_full_sixteen_bits_are_not_within_the_five() {
        assert!(!Action::from_json("*").is_within(Action::ALL));
        assert!(Action::NONE.is_within(Action::NONE));
    }
}
