//! How a broker tells what became of a publish: once, to who waits for it alone or to who has many under way.

use tokio::sync::{mpsc, oneshot};

use super::PublishError;
use crate::message::Position;
use crate::name::ChannelName;

/// With its position, on a channel with history.
pub type Outcome = Result<Option<Position>, Unpublished>;

/// Why a message was not published, of a channel that the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpublished {
    /// Never sent.
    Unavailable,
    /// Sent, and nobody knows.
    Unanswered,
}

impl Unpublished {
    pub fn of(self, channel: ChannelName) -> PublishError {
        match self {
            Unpublished::Unavailable => PublishError::Unavailable { channel },
            Unpublished::Unanswered => PublishError::Unanswered { channel },
        }
    }
}

/// Which of many publishes.
pub type Number = usize;

/// Takes the outcome of one publish. A broker that drops it has ended, and nobody knows what became of the message.
#[derive(Debug)]
pub struct Answer(Option<To>);

#[derive(Debug)]
enum To {
    One(oneshot::Sender<Outcome>),
    Many(Number, mpsc::UnboundedSender<(Number, Outcome)>),
}

impl Answer {
    pub fn one() -> (Answer, oneshot::Receiver<Outcome>) {
        let (answer, answered) = oneshot::channel();
        (Answer(Some(To::One(answer))), answered)
    }

    /// Into a queue with others: thousands that are under way need no future and no waker each. The queue holds as many
    /// as are under way, which is the caller's to bound.
    pub fn many(number: Number, queue: &mpsc::UnboundedSender<(Number, Outcome)>) -> Answer {
        Answer(Some(To::Many(number, queue.clone())))
    }

    pub fn send(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        // Who no longer waits has decided for itself.
        match self.0.take() {
            Some(To::One(answer)) => drop(answer.send(outcome)),
            Some(To::Many(number, queue)) => drop(queue.send((number, outcome))),
            None => {}
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.tell(Err(Unpublished::Unanswered));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_answered_once_also_when_it_is_dropped() {
        let (queue, mut outcomes) = mpsc::unbounded_channel();
        Answer::many(1, &queue).send(Ok(None));
        drop(Answer::many(2, &queue));
        let (answer, mut answered) = Answer::one();
        drop(answer);
        assert_eq!(outcomes.try_recv(), Ok((1, Ok(None))));
        assert_eq!(outcomes.try_recv(), Ok((2, Err(Unpublished::Unanswered))));
        assert!(outcomes.try_recv().is_err());
        assert_eq!(answered.try_recv(), Ok(Err(Unpublished::Unanswered)));
    }
}
