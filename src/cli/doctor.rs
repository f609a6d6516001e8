//! What is wrong with a token that a person has in hand, without any key.
//!
//! A header that does not work is answered with the same 401 whatever the cause. Here the usual
//! accidents are told apart: cut off, wrapped, pasted twice, the wrong alphabet, no discharge.
//! Each accident is undone where it can be, so that the ones behind it come to light too.

mod complaint;
mod reading;

use super::verify::shut;
use crate::authority::Window;
use crate::macaroon::{Bundle, Caveat, Limits, Text, ThirdParty, Token, undischarged};
use crate::policy::Reason;

pub(super) use complaint::{Complaint, Finding};

use reading::Reading;

/// What was found.
#[derive(Debug)]
pub(super) struct Report {
    /// Every token that could be made out.
    pub(super) tokens: Vec<Patient>,
    /// Everything that is wrong, in the order of the header.
    pub(super) findings: Vec<Finding>,
}

/// A token that could be made out.
#[derive(Debug)]
pub(super) struct Patient {
    /// Its place in the comma-separated list, from 1.
    pub(super) part: usize,
    pub(super) token: Token,
    pub(super) role: Role,
    pub(super) window: Window,
    /// Third parties, and the part that answers each.
    pub(super) third_parties: Vec<(Text, Option<usize>)>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Permits something.
    Permission,
    /// Answers a third-party caveat of another token.
    Discharge,
}

impl Report {
    /// Whether some permission token could be usable, as far as can be told without keys: nothing
    /// is wrong with the header, with it, or with a discharge that it needs.
    pub(super) fn can_be_usable(&self) -> bool {
        let sound = |part: usize| {
            let mut findings = self.findings.iter();
            findings.all(|finding| finding.part.is_some_and(|at| at != part))
        };
        self.tokens.iter().any(|patient| {
            let discharges = patient.third_parties.iter().map(|(_, part)| *part);
            patient.role == Role::Permission
                && sound(patient.part)
                && discharges.into_iter().flatten().all(sound)
        })
    }
}

/// Examines a header value, or whatever was pasted as one.
pub(super) fn examine(text: &str, limits: &Limits, now: i64) -> Report {
    let mut reading = Reading::new(limits);
    reading.header(text);
    report(reading, now)
}

/// The role of each token, told without knowing the authority's location: a discharge answers a
/// ticket of another token, or at least comes from a place where one is to be discharged.
pub(super) fn roles(tokens: &[Token]) -> Vec<Role> {
    let role = |token: &Token| {
        let mut asked = tokens.iter().flat_map(third_parties);
        let answers = asked.any(|third_party| {
            third_party.ticket.as_bytes() == token.key_id()
                || third_party.location.as_bytes() == token.location()
        });
        if answers || token.is_proof() {
            Role::Discharge
        } else {
            Role::Permission
        }
    };
    tokens.iter().map(role).collect()
}

/// Looks at the tokens together, and at the clock.
fn report(mut reading: Reading<'_>, now: i64) -> Report {
    let (parts, tokens): (Vec<usize>, Vec<Token>) = reading.tokens.drain(..).unzip();
    let bundle = Bundle {
        tokens,
        ..Bundle::default()
    };
    let tokens = &bundle.tokens;
    let mut patients = Vec::new();
    for ((token, part), role) in tokens.iter().zip(&parts).zip(roles(tokens)) {
        let patient = Patient {
            part: *part,
            token: token.clone(),
            role,
            window: Window::of(token.caveats()),
            third_parties: third_parties(token)
                .map(|third_party| {
                    let ticket = third_party.ticket.as_bytes();
                    let answer = tokens.iter().position(|other| other.key_id() == ticket);
                    let part = answer.and_then(|at| parts.get(at).copied());
                    (third_party.location.clone(), part)
                })
                .collect(),
        };
        for complaint in complaints(&patient, &bundle, now) {
            reading.find(*part, complaint);
        }
        patients.push(patient);
    }
    if !patients.is_empty() && patients.iter().all(|p| p.role == Role::Discharge) {
        reading.find(None, Complaint::NoPermissionToken);
    }
    let mut findings = reading.findings;
    findings.sort_by_key(|finding| finding.part.unwrap_or_default());
    Report {
        tokens: patients,
        findings,
    }
}

/// What is wrong with a token that is whole.
fn complaints(patient: &Patient, bundle: &Bundle, now: i64) -> Vec<Complaint> {
    let token = &patient.token;
    let mut found: Vec<Complaint> = undischarged(bundle, token)
        .map(|third_party| Complaint::MissingDischarge {
            location: third_party.location.clone(),
        })
        .collect();
    let mut asked = bundle.tokens.iter().flat_map(third_parties);
    if patient.role == Role::Discharge
        && !asked.any(|third_party| third_party.ticket.as_bytes() == token.key_id())
    {
        found.push(Complaint::OrphanDischarge);
    }
    let Window {
        not_before,
        not_after,
    } = patient.window;
    match shut(token.caveats(), now) {
        Some(Reason::NotYetValid) => found.push(Complaint::NotYetValid { at: not_before }),
        Some(_) => found.push(Complaint::Expired { at: not_after }),
        None => {}
    }
    found
}

fn third_parties(token: &Token) -> impl Iterator<Item = &ThirdParty> {
    token.caveats().iter().filter_map(|caveat| {
        if let Caveat::ThirdParty(third_party) = caveat {
            Some(third_party)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests;
