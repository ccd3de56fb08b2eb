//! Parses recurrence rules and the day or time from which they count.

use jiff::{
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};
use service_kit::{
    clock::Timestamp,
    page,
    status::{ApiError, Violations},
};
use taskey_proto::task::v1::{PreviewOccurrencesRequest, PreviewOccurrencesResponse, recurrence as pb};

use super::MISSING;
use crate::model::{
    field::{self, FieldError},
    recurrence::{Basis, CatchUp, MAX_BYTES, MAX_DAYS_EXAMINED, Rule, TOO_LATE},
};

const DEFAULT_PREVIEW_SIZE: i32 = 10;
const MAX_PREVIEW_SIZE: usize = 100;

/// The parameters of `PreviewOccurrences`.
pub(crate) struct Preview {
    rule: Rule,
    anchor: Anchor,
    size: usize,
}

/// The day or time from which a rule counts.
enum Anchor {
    Date(Date),
    Time(DateTime, TimeZone),
}

/// Parses a rule. Its canonical form is what callers send back.
pub(super) fn rule(rrule: &str) -> Result<Rule, String> {
    let rule = Rule::parse(rrule).map_err(|error| error.to_string())?;
    match rule.to_string().len() {
        ..=MAX_BYTES => Ok(rule),
        _ => Err(format!("must have at most {MAX_BYTES} characters in its canonical form")),
    }
}

pub(super) fn basis(basis: i32) -> Result<Basis, FieldError> {
    match pb::Basis::try_from(basis) {
        Ok(pb::Basis::Unspecified | pb::Basis::Due) => Ok(Basis::Due),
        Ok(pb::Basis::Completion) => Ok(Basis::Completion),
        Err(_) => Err("is not a known basis"),
    }
}

pub(super) fn catch_up(catch_up: i32) -> Result<CatchUp, FieldError> {
    match pb::CatchUp::try_from(catch_up) {
        Ok(pb::CatchUp::Unspecified | pb::CatchUp::Skip) => Ok(CatchUp::Skip),
        Ok(pb::CatchUp::Each) => Ok(CatchUp::Each),
        Err(_) => Err("is not a known value"),
    }
}

/// Parses the parameters of `PreviewOccurrences`.
///
/// # Errors
/// VALIDATION_FAILED
pub(crate) fn preview(request: PreviewOccurrencesRequest) -> Result<Preview, ApiError> {
    let mut violations = Violations::default();
    let rule = violations.check("rrule", Rule::parse(&request.rrule));
    let zone = violations.check("time_zone", field::time_zone(request.time_zone));
    let date = violations.check("start_date", field::due_date(&request.start_date));
    let time = violations.check("start_time", start_time(request.start_time));
    let size = if request.page_size == 0 { DEFAULT_PREVIEW_SIZE } else { request.page_size };
    let size = violations.check("page_size", page::size(size)).map(|size| size.min(MAX_PREVIEW_SIZE));
    let anchor = match (date, time, zone) {
        (Some(date), Some(time), Some(zone)) => violations.check("start_date", anchor(date, time, &zone)),
        _ => None,
    };
    if let (Some(rule), Some(Anchor::Date(_))) = (&rule, &anchor)
        && rule.selects_times()
    {
        violations.add("rrule", "BYHOUR, BYMINUTE and BYSECOND require start_time");
    }
    let parsed = rule.zip(anchor).zip(size).map(|((rule, anchor), size)| Preview { rule, anchor, size });
    violations.finish(parsed)
}

fn start_time(time: Option<prost_types::Timestamp>) -> Result<Option<jiff::Timestamp>, FieldError> {
    let time = field::due_time(time)?.map(|time| jiff::Timestamp::from_microsecond(time.as_micros()));
    time.transpose().map_err(|_| TOO_LATE)
}

fn anchor(date: Option<Date>, time: Option<jiff::Timestamp>, zone: &str) -> Result<Anchor, FieldError> {
    match (date, time) {
        (Some(date), None) => Ok(Anchor::Date(date)),
        (None, Some(time)) => {
            let zone = jiff::tz::db().get(zone).unwrap_or(TimeZone::UTC);
            Ok(Anchor::Time(zone.to_datetime(time), zone))
        }
        (Some(_), Some(_)) => Err("must not be set together with start_time"),
        (None, None) => Err(MISSING),
    }
}

impl Preview {
    /// Returns the first occurrences.
    ///
    /// # Errors
    /// VALIDATION_FAILED if there are none.
    pub(crate) fn response(&self) -> Result<PreviewOccurrencesResponse, ApiError> {
        let mut response = PreviewOccurrencesResponse::default();
        match &self.anchor {
            Anchor::Date(date) => {
                response.dates = self.rule.dates(*date).take(self.size).map(|date| date.to_string()).collect();
                response.recurrence_text = self.rule.text(date.to_datetime(Time::midnight()));
            }
            Anchor::Time(time, zone) => {
                let instants = self.rule.instants(*time, zone.clone()).take(self.size);
                let micros = instants.map(|instant| Timestamp::from_micros(instant.as_microsecond()));
                response.times = micros.map(Into::into).collect();
                response.recurrence_text = self.rule.text(*time);
            }
        }
        let mut violations = Violations::default();
        if response.dates.is_empty() && response.times.is_empty() {
            violations.add("rrule", self.without_occurrence());
        }
        violations.finish(Some(response))
    }

    /// Returns why the rule has no occurrence.
    fn without_occurrence(&self) -> String {
        let ends_before_start = match &self.anchor {
            Anchor::Date(date) => self.rule.ends_before(date.to_datetime(Time::midnight()), &TimeZone::UTC),
            Anchor::Time(time, zone) => self.rule.ends_before(*time, zone),
        };
        if ends_before_start {
            "must not have an UNTIL before the start".to_owned()
        } else {
            format!("must match one of the {MAX_DAYS_EXAMINED} days and times that are examined")
        }
    }
}
