//! `usher token inspect`.

use serde_json::{Value, json};

use super::credential::token;
use super::doctor::{Finding, Patient, Report, Role, examine};
use super::text::{moment, printable, span};
use super::{Answer, CliError, Console, Inspect, summary};
use crate::authority::{KeyId, Window};
use crate::macaroon::{Caveat, Limits, Text, Token, caveats_to_json, describe};

pub(super) fn run(args: &Inspect, console: &mut Console<'_>) -> Result<Answer, CliError> {
    let header = token(&args.source, console)?;
    let report = examine(&header, &Limits::DEFAULT, console.now);
    if args.json {
        console.say_json(&in_json(&report, console.now))?;
    } else {
        for patient in &report.tokens {
            in_words(patient, &report, console)?;
        }
        for finding in &report.findings {
            let complaint = printable(&finding.complaint.to_string());
            match finding.part {
                Some(part) => {
                    console.say(format_args!("problem with token {part}: {complaint}"))?
                }
                None => console.say(format_args!("problem: {complaint}"))?,
            }
        }
    }
    Ok(if report.can_be_usable() {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn in_words(patient: &Patient, report: &Report, console: &mut Console<'_>) -> Result<(), CliError> {
    let token = &patient.token;
    let role = match patient.role {
        Role::Permission => "permission token",
        Role::Discharge => "discharge",
    };
    let location = Text::from(token.location());
    console.say(format_args!("token {}: {role} of {location}", patient.part))?;
    let sentence = sentence(patient, report, console.now);
    console.say(format_args!("  {}", printable(&sentence)))?;
    console.say(format_args!("  id     {}", token.uuid()))?;
    if patient.role == Role::Permission {
        console.say(format_args!("  key    {}", KeyId::of(token.key_id())))?;
    }
    console.say(format_args!(
        "  valid  {}",
        validity(patient.window, console.now)
    ))?;
    for (location, answer) in &patient.third_parties {
        match answer {
            Some(part) => console.say(format_args!("  {location} discharges it: token {part}"))?,
            None => console.say(format_args!("  {location} must discharge it: not here"))?,
        }
    }
    for caveat in token.caveats() {
        console.say(format_args!("  - {}", printable(&describe(caveat))))?;
    }
    Ok(())
}

/// What the token can do, in the company it is in.
fn sentence(patient: &Patient, report: &Report, now: i64) -> String {
    let token = &patient.token;
    if patient.role == Role::Discharge {
        let location = Text::from(token.location()).to_string();
        return summary::discharge(&location, token.caveats(), now);
    }
    // Which of several discharges will be taken is not known without keys, so all of them count.
    let discharges = |ticket: &[u8]| -> Vec<&Token> {
        let others = report.tokens.iter().map(|other| &other.token);
        let others = others.filter(|other| other.location() != token.location());
        others.filter(|other| other.key_id() == ticket).collect()
    };
    let mut caveats = Vec::new();
    for caveat in token.caveats() {
        let ticket = caveat.third_party().map(|party| party.ticket.as_bytes());
        match ticket.map(discharges).as_deref() {
            None | Some([]) => caveats.push(caveat),
            Some(found) => caveats.extend(found.iter().flat_map(|other| restricting(other))),
        }
    }
    summary::permission(caveats, now)
}

/// What a discharge restricts. It may be bound to its token, which is no restriction.
fn restricting(discharge: &Token) -> impl Iterator<Item = &Caveat> {
    let caveats = discharge.caveats().iter();
    caveats.filter(|caveat| !matches!(caveat, Caveat::BindToParentToken(_)))
}

fn validity(window: Window, now: i64) -> String {
    let start = window.not_before;
    match window.end() {
        Some(end) if now > end => {
            format!(
                "until {}, {} ago",
                moment(end),
                span(now.saturating_sub(end))
            )
        }
        _ if now < start => format!(
            "from {} on, in {}",
            moment(start),
            span(start.saturating_sub(now))
        ),
        Some(end) => format!(
            "until {}, for {}",
            moment(end),
            span(end.saturating_sub(now))
        ),
        None => "without an end".to_owned(),
    }
}

fn in_json(report: &Report, now: i64) -> Value {
    let tokens = report.tokens.iter();
    let tokens: Vec<Value> = tokens
        .map(|patient| token_in_json(patient, report, now))
        .collect();
    let problems: Vec<Value> = report.findings.iter().map(finding_in_json).collect();
    json!({
        "usable": report.can_be_usable(),
        "tokens": tokens,
        "problems": problems,
    })
}

fn token_in_json(patient: &Patient, report: &Report, now: i64) -> Value {
    let token = &patient.token;
    let (role, key) = match patient.role {
        Role::Permission => ("permission", Some(KeyId::of(token.key_id()).to_string())),
        Role::Discharge => ("discharge", None),
    };
    let third_parties: Vec<Value> = patient
        .third_parties
        .iter()
        .map(|(location, answer)| json!({"location": location.to_string(), "discharge": answer}))
        .collect();
    let words: Vec<String> = token.caveats().iter().map(describe).collect();
    let start = patient.window.not_before;
    json!({
        "token": patient.part,
        "role": role,
        "summary": sentence(patient, report, now),
        "location": Text::from(token.location()).to_string(),
        "id": token.uuid().to_string(),
        "key": key,
        "not_before": (start > i64::MIN).then_some(start),
        "not_after": patient.window.end(),
        "third_parties": third_parties,
        "caveats": caveats_to_json(token.caveats()),
        "words": words,
    })
}

fn finding_in_json(finding: &Finding) -> Value {
    json!({
        "token": finding.part,
        "code": finding.complaint.code(),
        "message": finding.complaint.to_string(),
    })
}
