use std::ops::{Deref, Range};
use std::sync::Arc;

use super::Kept;

/// Messages of one log, in its order. Clones and parts share them: thousands that come back at once have one page
/// between them, not one each.
#[derive(Debug, Clone)]
pub struct Messages {
    all: Arc<[Kept]>,
    /// Which of them.
    part: Range<usize>,
}

impl Messages {
    /// Those of the part, counted from the first of these.
    ///
    /// # Panics
    ///
    /// When it is not inside.
    #[must_use]
    pub fn part(&self, part: Range<usize>) -> Messages {
        assert!(part.start <= part.end && part.end <= self.len());
        let first = self.part.start;
        Messages {
            all: self.all.clone(),
            part: first + part.start..first + part.end,
        }
    }
}

impl Deref for Messages {
    type Target = [Kept];

    fn deref(&self) -> &[Kept] {
        &self.all[self.part.clone()]
    }
}

impl From<Vec<Kept>> for Messages {
    fn from(all: Vec<Kept>) -> Self {
        let part = 0..all.len();
        let all = all.into();
        Messages { all, part }
    }
}

impl FromIterator<Kept> for Messages {
    fn from_iter<I: IntoIterator<Item = Kept>>(all: I) -> Self {
        Vec::from_iter(all).into()
    }
}
