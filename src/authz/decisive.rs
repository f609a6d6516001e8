//! Which tokens permit what a request asks for.
//!
//! Different accesses may be permitted by different tokens. What a request leaves to the token
//! (its organization, its cluster) is another matter: the upstream is told it once for the whole
//! request, so all accesses that leave something out must be permitted by one and the same token.
//! Otherwise a token that may do little in one organization would lend its name to what another
//! token permits in another.

use smallvec::SmallVec;

use super::bearer::Candidate;
use crate::policy::Asked;

/// The tokens that together permit a request.
pub(super) struct Decisive<'b> {
    /// At least one, each once; the first permits the first access.
    pub(super) tokens: SmallVec<[&'b Candidate; 1]>,
    /// The organizations that the request is about, where it leaves that to the token; else the one
    /// of its first access.
    pub(super) orgs: SmallVec<[u64; 1]>,
    /// The cluster, where the request leaves it to the token.
    pub(super) cluster: Option<Box<str>>,
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// No token permits the access at this place; without accesses, none permits anything.
    Access(usize),
    /// Each access is permitted, but no token permits all that the request leaves to it.
    OneToken,
}

impl<'b> Decisive<'b> {
    /// For each access the first token that permits it; where the request asks for none, the first
    /// token whose caveats permit anything at all.
    pub(super) fn of(
        usable: &[&'b Candidate],
        accesses: &[Asked<'_>],
        now: i64,
    ) -> Result<Self, Lacking> {
        let mut decisive = Self {
            tokens: SmallVec::new(),
            orgs: SmallVec::new(),
            cluster: None,
        };
        if accesses.is_empty() {
            let permits = |token: &&&Candidate| token.permits(None, now).is_ok();
            let token = usable.iter().find(permits).ok_or(Lacking::Access(0))?;
            decisive.tokens.push(token);
            return Ok(decisive);
        }
        let owners = owners(usable, accesses, now)?;
        for (index, asked) in accesses.iter().enumerate() {
            if asked.depends_on_token() {
                for token in &owners {
                    if let Ok((org, cluster)) = token.permits(Some(asked), now) {
                        decisive.add(token);
                        decisive.orgs.extend(org);
                        decisive.cluster = decisive.cluster.or(cluster);
                    }
                }
            } else {
                let permits = |token: &&&Candidate| token.permits(Some(asked), now).is_ok();
                let token = usable.iter().find(permits);
                decisive.add(token.ok_or(Lacking::Access(index))?);
                if owners.is_empty() && index == 0 {
                    decisive.orgs.extend(asked.access.org);
                }
            }
        }
        if !owners.is_empty() {
            decisive.orgs.sort_unstable();
            decisive.orgs.dedup();
        }
        Ok(decisive)
    }

    fn add(&mut self, token: &'b Candidate) {
        if !self.tokens.iter().any(|known| std::ptr::eq(*known, token)) {
            self.tokens.push(token);
        }
    }
}

/// The tokens that permit all that the request leaves to them: the first one, or, where the
/// request is about all of the bearer's organizations, every one. None if it leaves nothing.
fn owners<'b>(
    usable: &[&'b Candidate],
    accesses: &[Asked<'_>],
    now: i64,
) -> Result<SmallVec<[&'b Candidate; 1]>, Lacking> {
    let dependent = || {
        let numbered = accesses.iter().enumerate();
        numbered.filter(|(_, asked)| asked.depends_on_token())
    };
    if dependent().next().is_none() {
        return Ok(SmallVec::new());
    }
    let every = dependent().all(|(_, asked)| asked.every_org);
    let permits = |token: &Candidate, asked: &Asked<'_>| token.permits(Some(asked), now).is_ok();
    let owners: SmallVec<_> = usable
        .iter()
        .filter(|token| dependent().all(|(_, asked)| permits(token, asked)))
        .take(if every { usize::MAX } else { 1 })
        .copied()
        .collect();
    if !owners.is_empty() {
        return Ok(owners);
    }
    let nobody = |asked: &Asked<'_>| !usable.iter().any(|token| permits(token, asked));
    Err(match dependent().find(|(_, asked)| nobody(asked)) {
        Some((index, _)) => Lacking::Access(index),
        None => Lacking::OneToken,
    })
}
