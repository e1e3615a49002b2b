//! What a shard's clients publish: posted one by one as it comes, answered as the broker answers, many in one piece.

use slab::Slab;

use super::*;
use crate::broker::{Answer, Number, Outcome};
use crate::engine::replies::{Gathered, Replies};
use crate::engine::weight::Weight;

/// Answers that become one command to the shard.
const ANSWERS_A_TURN: usize = 256;

/// Publishes that the broker has not answered, and what it has said of others.
pub(super) struct Publishing {
    under_way: Slab<Posted>,
    /// One for each that is under way at most.
    answers: mpsc::UnboundedSender<(Number, Outcome)>,
    answered: mpsc::UnboundedReceiver<(Number, Outcome)>,
    came: Vec<(Number, Outcome)>,
}

/// Who waits.
pub(super) struct Posted {
    pub(super) key: ConnectionKey,
    pub(super) channel: ChannelName,
    pub(super) id: Option<RequestId>,
    /// Dropped with the answer.
    pub(super) weight: Weight,
}

impl Publishing {
    pub(super) fn new() -> Publishing {
        let (answers, answered) = mpsc::unbounded_channel();
        Publishing {
            under_way: Slab::new(),
            answers,
            answered,
            came: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// The message takes its place in its channel now.
    pub(super) fn post<B: Broker>(&mut self, node: &Node<B>, posted: Posted, message: Message) {
        let channel = posted.channel.clone();
        let answer = Answer::many(self.under_way.insert(posted), &self.answers);
        node.post(channel, message, answer);
    }

    /// Waits until some are answered. Nothing is lost when it is dropped.
    pub(super) async fn answered(&mut self) {
        let Publishing { answered, came, .. } = self;
        answered.recv_many(came, ANSWERS_A_TURN).await;
    }

    /// What those who were answered are told.
    pub(super) fn replies(&mut self, metrics: &Metrics) -> Vec<Replies> {
        let mut gathered = Gathered::default();
        for (number, outcome) in self.came.drain(..) {
            let Some(posted) = self.under_way.try_remove(number) else {
                continue;
            };
            let Posted {
                key,
                channel,
                id,
                weight,
            } = posted;
            drop(weight);
            if let Some(append) = published(outcome, channel, id.as_ref(), metrics) {
                gathered.add(key, append);
            }
        }
        gathered.take()
    }
}
