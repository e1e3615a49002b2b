//! How many clients there should be at which time. Pure.

use std::str::FromStr;
use std::time::Duration;

/// Points in time and clients, and lines between them: `0:0,60:10000,120:10000,180:0`. Without a point at 0 it begins
/// there with nobody. Two points at one time are a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Seconds since the beginning, never falling, and clients; at least one.
    points: Vec<(u64, usize)>,
}

/// Why a text is no profile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("`{0}` is not `seconds:clients`, two whole numbers")]
    Point(String),
    #[error("`{0}` is before the point in front of it")]
    Back(String),
    #[error("it ends where it begins: its last point must be later than second 0")]
    Short,
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Profile, ProfileError> {
        let mut points: Vec<(u64, usize)> = Vec::new();
        for point in text.split(',').map(str::trim) {
            let (seconds, clients) = point
                .split_once(':')
                .and_then(|(s, c)| Some((s.trim().parse().ok()?, c.trim().parse().ok()?)))
                .ok_or_else(|| ProfileError::Point(point.to_owned()))?;
            match points.last() {
                Some((before, _)) if *before > seconds => {
                    return Err(ProfileError::Back(point.to_owned()));
                }
                None if seconds > 0 => points.push((0, 0)),
                _ => {}
            }
            points.push((seconds, clients));
        }
        let profile = Profile { points };
        if profile.length() == Duration::ZERO {
            return Err(ProfileError::Short);
        }
        Ok(profile)
    }
}

impl Profile {
    /// Until the last point.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.points.last().map_or(0, |(seconds, _)| *seconds))
    }

    /// The most clients that there ever are.
    pub fn most(&self) -> usize {
        self.points
            .iter()
            .map(|(_, clients)| *clients)
            .max()
            .unwrap_or(0)
    }

    /// How many there should be so long after the beginning; behind the last point as many as there.
    pub fn wanted(&self, at: Duration) -> usize {
        let next = self
            .points
            .partition_point(|(seconds, _)| Duration::from_secs(*seconds) <= at);
        let (before, after) = match (next.checked_sub(1), self.points.get(next)) {
            (Some(before), Some(after)) => (self.points[before], *after),
            (Some(last), None) => return self.points[last].1,
            (None, _) => return 0,
        };
        // Whole milliseconds and whole clients: no rounding of fractions to reason about.
        let gone = at.as_millis() - u128::from(before.0) * 1_000;
        let length = u128::from(after.0 - before.0) * 1_000;
        let step = |distance: usize| {
            usize::try_from(distance as u128 * gone / length).expect("not more than the distance")
        };
        if after.1 >= before.1 {
            before.1 + step(after.1 - before.1)
        } else {
            before.1 - step(before.1 - after.1)
        }
    }
}

/// Which of the clients are this process's: `1/3` is the first of three, which has every third client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: usize,
    pub of: usize,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let part = text
            .split_once('/')
            .and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)))
            .map(|(number, of)| Part { number, of });
        part.filter(|part| part.number >= 1 && part.number <= part.of)
            .ok_or_else(|| format!("`{text}` is not like 1/3, which is the first of three"))
    }
}

impl Part {
    /// How many of so many are this process's.
    pub fn share(self, of_all: usize) -> usize {
        (of_all + self.of - self.number) / self.of
    }

    /// The number among all of this process's client `index`.
    pub fn client(self, index: usize) -> usize {
        index * self.of + self.number - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_points_are_lines() {
        let profile: Profile = "0:0, 60:6000,120:6000,180:0".parse().unwrap();
        for (ms, wanted) in [
            (0, 0),
            (9, 0),
            (10, 1),
            (30_000, 3_000),
            (60_000, 6_000),
            (119_999, 6_000),
            (120_010, 5_999),
            (150_000, 3_000),
            (180_000, 0),
            (999_000, 0),
        ] {
            assert_eq!(
                profile.wanted(Duration::from_millis(ms)),
                wanted,
                "at {ms} ms"
            );
        }
        assert_eq!(profile.length(), Duration::from_secs(180));
        assert_eq!(profile.most(), 6_000);
    }

    #[test]
    fn two_points_at_one_time_are_a_step_and_one_is_a_ramp() {
        let profile: Profile = "0:10,5:10,5:20,6:20".parse().unwrap();
        for (ms, wanted) in [(0, 10), (4_999, 10), (5_000, 20), (6_000, 20)] {
            assert_eq!(
                profile.wanted(Duration::from_millis(ms)),
                wanted,
                "at {ms} ms"
            );
        }
        let ramp: Profile = "10:100".parse().unwrap();
        assert_eq!(ramp.wanted(Duration::from_secs(5)), 50);
    }

    #[test]
    fn what_is_no_profile_is_named() {
        for (text, expected) in [
            ("", "`` is not"),
            ("5", "`5` is not"),
            ("0:0,5:x", "`5:x` is not"),
            ("0:0,-5:3", "`-5:3` is not"),
            ("0:0,9:1,8:2", "`8:2` is before"),
            ("0:5", "it ends where it begins"),
        ] {
            let error = text.parse::<Profile>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn parts_share_all_clients_and_each_is_of_one() {
        for (of, all) in [(1, 7), (3, 0), (3, 1), (3, 10), (4, 8)] {
            let mut clients: Vec<usize> = (1..=of)
                .map(|number| Part { number, of })
                .flat_map(|part| (0..part.share(all)).map(move |index| part.client(index)))
                .collect();
            clients.sort_unstable();
            assert_eq!(clients, (0..all).collect::<Vec<_>>(), "{all} in {of} parts");
        }
        for text in ["", "1", "0/3", "4/3", "a/b"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }
}
