//! `usher token inspect`.

use serde_json::{Value, json};

use super::credential::token;
use super::doctor::{Finding, Patient, Report, Role, examine};
use super::text::{moment, printable, span};
use super::{Answer, CliError, Console, Inspect};
use crate::authority::{KeyId, Window};
use crate::macaroon::{Limits, Text, caveats_to_json, describe};

pub(super) fn run(args: &Inspect, console: &mut Console<'_>) -> Result<Answer, CliError> {
    let header = token(&args.source, console)?;
    let report = examine(&header, &Limits::DEFAULT, console.now);
    if args.json {
        console.say_json(&in_json(&report))?;
    } else {
        for patient in &report.tokens {
            in_words(patient, console)?;
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

fn in_words(patient: &Patient, console: &mut Console<'_>) -> Result<(), CliError> {
    let token = &patient.token;
    let role = match patient.role {
        Role::Permission => "permission token",
        Role::Discharge => "discharge",
    };
    let location = Text::from(token.location());
    console.say(format_args!("token {}: {role} of {location}", patient.part))?;
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

fn in_json(report: &Report) -> Value {
    let tokens: Vec<Value> = report.tokens.iter().map(token_in_json).collect();
    let problems: Vec<Value> = report.findings.iter().map(finding_in_json).collect();
    json!({
        "usable": report.can_be_usable(),
        "tokens": tokens,
        "problems": problems,
    })
}

fn token_in_json(patient: &Patient) -> Value {
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
