//! The promise that what is kept can be read again.

use futures::future::join_all;
use gateway::history::{Keep, Page, Range};
use gateway::message::Position;

use super::*;

const KEEP: Keep = Keep {
    messages: 5,
    age_ms: 60_000,
};

promise!(positions_are_those_of_the_deliveries);
promise!(what_was_missed_can_be_read);
promise!(a_log_begins_when_it_is_asked_for);
promise!(what_is_too_old_is_not_read);

impl<B: Broker> Node<B> {
    /// Publishes messages with these numbers, all at once.
    async fn keep(&self, name: &str, numbers: std::ops::Range<usize>) -> Vec<Position> {
        let calls: Vec<_> = numbers
            .map(|number| {
                // As old as a message is: the present.
                let mut message = message(number);
                message.timestamp = now();
                self.broker.publish(channel(name), message, Some(KEEP))
            })
            .collect();
        let published = within("publish", join_all(calls)).await;
        published
            .into_iter()
            .map(|result| result.unwrap().expect("it is kept"))
            .collect()
    }

    async fn read(&self, name: &str, since: Option<Position>, keep: Keep) -> Page {
        let range = Range {
            since,
            limit: 100,
            bytes: 1 << 20,
            keep,
        };
        within("history", self.broker.history(channel(name), range))
            .await
            .unwrap()
    }
}

fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn numbers(page: &Page) -> Vec<usize> {
    page.messages
        .iter()
        .map(|kept| kept.message.data.get().parse().unwrap())
        .collect()
}

pub(super) mod promises {
    use super::*;

    pub(in crate::broker) async fn positions_are_those_of_the_deliveries<B: Broker>(
        mut node: Node<B>,
    ) {
        node.subscribe("a").await;
        let published = node.keep("a", 0..300).await;
        let epoch = published[0].epoch;
        for (number, position) in published.into_iter().enumerate() {
            let offset = u64::try_from(number).unwrap() + 1;
            assert_eq!(position, Position { epoch, offset });
            match node.event().await {
                Event::Delivery(delivery) => {
                    assert_eq!(delivery.message.data.get(), number.to_string());
                    assert_eq!(delivery.position, Some(position));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(in crate::broker) async fn what_was_missed_can_be_read<B: Broker>(node: Node<B>) {
        // Also with nobody there.
        let published = node.keep("a", 0..8).await;
        let newest = node.read("a", None, KEEP).await;
        assert_eq!(newest.top, published[7]);
        assert_eq!(numbers(&newest), [3, 4, 5, 6, 7], "as many as are kept");
        for (since, missed, whole) in [
            (published[7], vec![], true),
            (published[5], vec![6, 7], true),
            (published[2], vec![3, 4, 5, 6, 7], true),
            (published[1], vec![3, 4, 5, 6, 7], false),
        ] {
            let page = node.read("a", Some(since), KEEP).await;
            assert_eq!((numbers(&page), page.whole), (missed, whole), "{since:?}");
            assert!(page.complete, "{since:?}");
        }
        let other = Position {
            epoch: published[0].epoch - 1,
            ..published[7]
        };
        assert!(!node.read("a", Some(other), KEEP).await.whole);
    }

    pub(in crate::broker) async fn a_log_begins_when_it_is_asked_for<B: Broker>(node: Node<B>) {
        let empty = node.read("a", None, KEEP).await;
        assert_eq!((empty.top.offset, numbers(&empty)), (0, vec![]));
        let published = node.keep("a", 0..1).await;
        assert_eq!(
            published[0],
            Position {
                offset: 1,
                ..empty.top
            }
        );
        let page = node.read("a", Some(empty.top), KEEP).await;
        assert_eq!((numbers(&page), page.whole), (vec![0], true));
    }

    pub(in crate::broker) async fn what_is_too_old_is_not_read<B: Broker>(node: Node<B>) {
        let published = node.keep("a", 0..2).await;
        let none = Keep { age_ms: 0, ..KEEP };
        let page = node.read("a", None, none).await;
        assert_eq!((page.top, numbers(&page)), (published[1], vec![]));
        let page = node.read("a", Some(published[0]), none).await;
        assert!(!page.whole, "one was missed and is gone");
    }
}
