//! What is done to the cluster meanwhile, as somebody else writes it into a file: the record is cut there, and the profile
//! waits for it.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The file, and what it said last.
pub struct StageFile {
    /// None: nobody says anything.
    path: Option<PathBuf>,
    /// Without a line's end. Empty: no stage.
    pub name: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
}

impl StageFile {
    pub fn new(path: Option<PathBuf>) -> StageFile {
        StageFile {
            path,
            name: String::new(),
            began: 0,
        }
    }

    /// The stage that is over, if the file says something else now, and when it had begun. A file that is not there says nothing.
    pub fn look(&mut self, unix: u64) -> io::Result<Option<(String, u64)>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let said = match std::fs::read_to_string(path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        if said == self.name {
            return Ok(None);
        }
        let name = std::mem::replace(&mut self.name, said);
        let began = std::mem::replace(&mut self.began, unix);
        Ok((!name.is_empty()).then_some((name, began)))
    }

    pub fn is_under_way(&self) -> bool {
        !self.name.is_empty()
    }
}

/// The profile's time, which stands still while it is told to.
pub struct Clock {
    last: Instant,
    at: Duration,
}

impl Clock {
    pub fn new(now: Instant) -> Clock {
        Clock {
            last: now,
            at: Duration::ZERO,
        }
    }

    pub fn tick(&mut self, now: Instant, stands: impl FnOnce(Duration) -> bool) -> Duration {
        let gone = now - std::mem::replace(&mut self.last, now);
        if !stands(self.at) {
            self.at += gone;
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_told_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stage");
        let mut file = StageFile::new(Some(path.clone()));
        for (unix, text, over) in [
            (1, None, None),
            (2, Some("quiet\n"), None),
            (3, Some("quiet"), None),
            (5, Some("rollout"), Some(("quiet", 2))),
            (9, Some(""), Some(("rollout", 5))),
            (10, Some("drain"), None),
            (11, None, Some(("drain", 10))),
        ] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            let found = file.look(unix).unwrap();
            let expected = over.map(|(name, began)| (name.to_owned(), began));
            assert_eq!(found, expected, "at {unix}");
            assert_eq!(
                file.is_under_way(),
                text.is_some_and(|text| !text.is_empty())
            );
        }
        assert_eq!(StageFile::new(None).look(1).unwrap(), None);
        let not_a_file = StageFile::new(Some(folder.path().to_owned())).look(1);
        assert!(not_a_file.is_err());
    }

    #[test]
    fn the_clock_stands_and_goes_on_from_there() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut clock = Clock::new(began);
        let stands_at_3 = |at: Duration| at >= Duration::from_secs(3);
        for (seconds, is_held, expected) in [
            (2, true, 2),
            (4, true, 4),
            (50, true, 4),
            (51, false, 5),
            (52, true, 5),
        ] {
            let at = clock.tick(after(seconds), |at| is_held && stands_at_3(at));
            assert_eq!(at, Duration::from_secs(expected), "at {seconds}");
        }
    }
}
