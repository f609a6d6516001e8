//! What fragments make of a document: no circle, and no depth beyond the bound.

use super::document::Document;
use super::fault::{GraphQlFault, MAX_DEPTH};

/// How deep an operation or a fragment goes by itself, and where it spreads fragments.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Selection sets in each other; 1 for a single one.
    depth: usize,
    /// Places of fragments, each with the depth of the selection set that spreads it.
    spreads: Vec<(usize, usize)>,
}

impl Shape {
    pub(super) fn reaches(&mut self, depth: usize) {
        self.depth = self.depth.max(depth);
    }

    pub(super) fn spreads(&mut self, fragment: usize, depth: usize) {
        self.spreads.push((fragment, depth));
    }

    /// Depth with fragments expanded, where the depth of each of them is known.
    ///
    /// The fields of a fragment stand at the level that spreads it, so that level counts once.
    fn expanded(&self, depths: &[usize]) -> usize {
        let depth_at = |(fragment, depth): &(usize, usize)| {
            let below = depths
                .get(*fragment)
                .map_or(0, |depth| depth.saturating_sub(1));
            depth.saturating_add(below)
        };
        let deepest = self.spreads.iter().map(depth_at).max();
        deepest.map_or(self.depth, |deepest| deepest.max(self.depth))
    }
}

/// Goes through the fragments from those that spread none to those that spread all of them.
///
/// Each spread is looked at once. To expand them one after the other instead would take twice the
/// time with each fragment that spreads the next one twice.
pub(super) fn check(document: &Document) -> Result<(), GraphQlFault> {
    let fragments = &document.fragments;
    let mut spread_by = vec![Vec::new(); fragments.len()];
    let mut unknown = Vec::with_capacity(fragments.len());
    for (index, fragment) in fragments.iter().enumerate() {
        for (spread, _) in &fragment.shape.spreads {
            if let Some(spreading) = spread_by.get_mut(*spread) {
                spreading.push(index);
            }
        }
        unknown.push(fragment.shape.spreads.len());
    }
    let mut depths = vec![0; fragments.len()];
    let no_spread = |(index, count): (usize, &usize)| (*count == 0).then_some(index);
    let mut ready: Vec<usize> = unknown.iter().enumerate().filter_map(no_spread).collect();
    let mut known: usize = 0;
    while let Some(index) = ready.pop() {
        known = known.saturating_add(1);
        let fragment = fragments.get(index);
        let depth = fragment.map_or(0, |fragment| fragment.shape.expanded(&depths));
        if let Some(place) = depths.get_mut(index) {
            *place = depth;
        }
        for spreading in spread_by.get(index).into_iter().flatten() {
            if let Some(count) = unknown.get_mut(*spreading) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push(*spreading);
                }
            }
        }
    }
    if known < fragments.len() {
        return Err(GraphQlFault::FragmentCycle);
    }
    let operations = document.operations.iter().map(|operation| &operation.shape);
    let mut shapes = operations.chain(fragments.iter().map(|fragment| &fragment.shape));
    if shapes.any(|shape| shape.expanded(&depths) > MAX_DEPTH) {
        return Err(GraphQlFault::TooDeep);
    }
    Ok(())
}
