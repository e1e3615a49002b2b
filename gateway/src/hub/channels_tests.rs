use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// Something that happens to one channel.
#[derive(Debug, Clone, Copy)]
enum Input {
    Interest(u16, Round),
    Disinterest(u16),
    Pin,
    Subscribed,
    Failed,
    Unsubscribed,
}

fn news() -> ChannelName {
    ChannelName::parse("news").unwrap()
}

fn feed(channels: &mut Channels, input: Input) -> Vec<Action> {
    let mut actions = Vec::new();
    match input {
        Input::Interest(shard, round) => {
            channels.interest(&news(), ShardId(shard), round, &mut actions);
        }
        Input::Disinterest(shard) => channels.disinterest(&news(), ShardId(shard), &mut actions),
        Input::Pin => channels.pin(&news(), &mut actions),
        Input::Subscribed => channels.subscribed(&news(), &mut actions),
        Input::Failed => channels.failed(&news(), &mut actions),
        Input::Unsubscribed => channels.unsubscribed(&news(), &mut actions),
    }
    actions
}

fn show(action: &Action) -> String {
    match action {
        Action::Subscribe(_) => "subscribe".into(),
        Action::Unsubscribe(_) => "unsubscribe".into(),
        Action::Live(shard, _, round) => format!("live {}:{round}", shard.0),
        Action::Refused(shard, _, round) => format!("refused {}:{round}", shard.0),
        Action::PinLater(_) => "pin later".into(),
    }
}

#[test]
fn a_channel_s_row_is_small() {
    // Every user has a channel, and the table up to twice as many rows as channels.
    assert!(
        size_of::<(ChannelName, Entry)>() <= 48,
        "{}",
        size_of::<(ChannelName, Entry)>()
    );
}

#[test]
fn calls_at_the_broker_never_overlap() {
    use Input::*;
    type Step = (Input, &'static [&'static str]);
    let stories: &[(&str, &[Step])] = &[
        (
            "first and last",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Subscribed, &["live 0:1"]),
                (Disinterest(0), &["unsubscribe"]),
                (Unsubscribed, &[]),
                (Interest(0, 2), &["subscribe"]),
            ],
        ),
        (
            "a second shard does not ask the broker again",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Interest(1, 1), &[]),
                (Subscribed, &["live 0:1", "live 1:1"]),
                (Interest(2, 5), &["live 2:5"]),
                (Disinterest(0), &[]),
                (Disinterest(1), &[]),
                (Disinterest(2), &["unsubscribe"]),
            ],
        ),
        (
            "a late last-leave does not deafen a first-come",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Subscribed, &["live 0:1"]),
                (Disinterest(0), &["unsubscribe"]),
                (Interest(1, 1), &[]),
                (Unsubscribed, &["subscribe"]),
                (Subscribed, &["live 1:1"]),
            ],
        ),
        (
            "who left before the answer is not told, and the channel is given back",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Disinterest(0), &[]),
                (Subscribed, &["unsubscribe"]),
                (Unsubscribed, &[]),
            ],
        ),
        (
            "who left and came again before the answer is told the last round",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Disinterest(0), &[]),
                (Interest(0, 2), &[]),
                (Subscribed, &["live 0:2"]),
            ],
        ),
        (
            "came and left while unsubscribing",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Subscribed, &["live 0:1"]),
                (Disinterest(0), &["unsubscribe"]),
                (Interest(0, 2), &[]),
                (Disinterest(0), &[]),
                (Unsubscribed, &[]),
                (Interest(0, 3), &["subscribe"]),
            ],
        ),
        (
            "a refusal goes to all who wait, and the next one tries anew",
            &[
                (Interest(0, 1), &["subscribe"]),
                (Interest(1, 7), &[]),
                (Failed, &["refused 0:1", "refused 1:7"]),
                (Disinterest(0), &[]),
                (Interest(0, 2), &["subscribe"]),
            ],
        ),
        (
            "a pinned channel stays and is asked for until it comes",
            &[
                (Pin, &["subscribe"]),
                (Failed, &["pin later"]),
                (Interest(0, 1), &["subscribe"]),
                (Pin, &[]),
                (Subscribed, &["live 0:1"]),
                (Disinterest(0), &[]),
                (Interest(0, 2), &["live 0:2"]),
            ],
        ),
    ];
    for (story, steps) in stories {
        let mut channels = Channels::default();
        for (number, (input, expected)) in steps.iter().enumerate() {
            let actions = feed(&mut channels, *input);
            let shown: Vec<String> = actions.iter().map(show).collect();
            assert_eq!(shown, *expected, "{story}: step {number}, {input:?}");
        }
    }
}

/// What shards do and what the broker answers, in any order.
fn happenings() -> impl Strategy<Value = Vec<(u8, bool)>> {
    proptest::collection::vec((0u8..8, any::<bool>()), 0..200)
}

proptest! {
    /// Three shards come and go, and the broker answers whenever it likes, yes or no. However they mix: one call at
    /// a time; a shard is told live only while the broker is subscribed; and when all has come to rest, whoever is
    /// interested is live at the broker, and a channel that nobody wants is forgotten.
    #[test]
    fn whoever_is_interested_in_the_end_is_not_deaf(happenings in happenings()) {
        let mut world = World::default();
        for (choice, yes) in happenings {
            match choice {
                0..3 => world.come_or_go(u16::from(choice)),
                _ => world.broker_answers(yes),
            }
        }
        while world.call.is_some() {
            world.broker_answers(true);
        }
        for (shard, round) in &world.interested {
            prop_assert!(world.told.contains(&(*shard, *round)), "shard {shard} is deaf");
            prop_assert!(world.subscribed);
        }
        if world.interested.is_empty() {
            prop_assert!(world.channels.is_empty() && !world.subscribed);
        }
    }
}

#[derive(Default)]
struct World {
    channels: Channels,
    round: Round,
    /// As the shards know it.
    interested: HashMap<u16, Round>,
    told: HashSet<(u16, Round)>,
    /// As the broker knows it.
    subscribed: bool,
    call: Option<Call>,
}

#[derive(Clone, Copy)]
enum Call {
    Subscribe,
    Unsubscribe,
}

impl World {
    fn come_or_go(&mut self, shard: u16) {
        let input = if self.interested.remove(&shard).is_some() {
            Input::Disinterest(shard)
        } else {
            self.round += 1;
            self.interested.insert(shard, self.round);
            Input::Interest(shard, self.round)
        };
        self.feed(input);
    }

    fn broker_answers(&mut self, yes: bool) {
        let input = match (self.call.take(), yes) {
            (None, _) => return,
            (Some(Call::Subscribe), true) => {
                self.subscribed = true;
                Input::Subscribed
            }
            (Some(Call::Subscribe), false) => Input::Failed,
            (Some(Call::Unsubscribe), _) => {
                self.subscribed = false;
                Input::Unsubscribed
            }
        };
        self.feed(input);
    }

    fn feed(&mut self, input: Input) {
        for action in feed(&mut self.channels, input) {
            match action {
                Action::Subscribe(_) => self.begin(Call::Subscribe),
                Action::Unsubscribe(_) => self.begin(Call::Unsubscribe),
                Action::Live(shard, _, round) => {
                    assert!(self.subscribed, "told live before the broker was");
                    self.told.insert((shard.0, round));
                }
                Action::Refused(shard, _, round) => {
                    // As a shard does: an answer to an earlier round says nothing.
                    if self.interested.get(&shard.0) == Some(&round) {
                        self.interested.remove(&shard.0);
                    }
                }
                Action::PinLater(_) => unreachable!("nothing is pinned here"),
            }
        }
    }

    fn begin(&mut self, call: Call) {
        assert!(self.call.is_none(), "two calls for one channel at once");
        self.call = Some(call);
    }
}
